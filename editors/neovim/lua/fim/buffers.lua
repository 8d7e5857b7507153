-- The sessions of buffers, and the editor events that drive them.

local menu = require('fim.menu')
local session = require('fim.session')

local M = {}

---@type table<integer, fim.Session>
local sessions = {}

---@param bufnr? integer default: the current buffer
---@return fim.Session?
function M.get(bufnr)
  return sessions[bufnr or vim.api.nvim_get_current_buf()]
end

---@param self fim.Session
local function follow(self)
  local group = vim.api.nvim_create_augroup('fim.session.' .. self.bufnr, {})
  local function on(events, callback)
    vim.api.nvim_create_autocmd(events, { group = group, buffer = self.bufnr, callback = callback })
  end
  on({ 'InsertEnter', 'CursorMovedI', 'TextChangedI', 'TextChangedP' }, function()
    self:on_typed()
  end)
  on({ 'InsertLeave', 'BufLeave' }, function()
    self:reset()
  end)
  on({ 'LspDetach' }, function(event)
    if event.data.client_id == self.client.id then
      M.detach(self.bufnr)
    end
  end)
  on({ 'BufWipeout' }, function()
    M.detach(self.bufnr)
  end)
end

--- Show a client's inline completions in a buffer.
---@param client vim.lsp.Client
---@param bufnr integer
function M.attach(client, bufnr)
  M.detach(bufnr)
  if not client:supports_method('textDocument/inlineCompletion', bufnr) then
    return
  end
  sessions[bufnr] = session.new(client, bufnr)
  follow(sessions[bufnr])
  require('fim.status').watch()
  menu.watch(function()
    local current = M.get()
    if current then
      current:on_menu()
    end
  end)
end

---@param bufnr integer
function M.detach(bufnr)
  local self = sessions[bufnr]
  if self then
    sessions[bufnr] = nil
    self:reset()
    vim.api.nvim_del_augroup_by_name('fim.session.' .. bufnr)
  end
end

return M
