-- Ghost text drawn with extmarks, where Neovim's inline completion is missing or disabled.

local M = {}

local namespace = vim.api.nvim_create_namespace('fim.ghost')

---@class fim.View
---@field asks_itself boolean whether the view itself requests completions while typing
local View = {}
View.__index = View

---@param client vim.lsp.Client
---@param bufnr integer
---@return fim.View
function M.new(client, bufnr)
  vim.api.nvim_set_hl(0, 'FimGhost', { link = 'NonText', default = true })
  vim.api.nvim_set_hl(0, 'FimGhostMore', { link = 'MoreMsg', default = true })
  return setmetatable({ client = client, bufnr = bufnr, asks_itself = false }, View)
end

---@param params lsp.InlineCompletionParams
---@param handler lsp.Handler
---@return boolean sent, integer? id
function View:request(params, handler)
  return self.client:request('textDocument/inlineCompletion', params, handler, self.bufnr)
end

--- The text with tabs expanded, which virtual text would show as `^I`.
---@param text string
---@param column integer screen column at which it begins, from 0
---@param tabstop integer
local function without_tabs(text, column, tabstop)
  local parts = {}
  for piece, tab in text:gmatch('([^\t]*)(\t?)') do
    local at = column + vim.api.nvim_strwidth(piece)
    local width = tab == '' and 0 or tabstop - at % tabstop
    table.insert(parts, piece .. (' '):rep(width))
    column = at + width
  end
  return table.concat(parts)
end

--- Draw an item at the cursor.
---@param rests fim.Item[]
---@param index integer
---@param cycled boolean whether to show the index and number of alternatives
---@return boolean visible
function View:show(rests, index, cycled)
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local tabstop = vim.bo[self.bufnr].tabstop
  local before = vim.api.nvim_get_current_line():sub(1, col)
  local lines = {}
  for number, line in ipairs(vim.split(rests[index].text, '\n', { plain = true })) do
    local column = number == 1 and vim.fn.strdisplaywidth(before) or 0
    lines[number] = { { without_tabs(line, column, tabstop), 'FimGhost' } }
  end
  if cycled then
    table.insert(lines[#lines], { (' (%d/%d)'):format(index, #rests), 'FimGhostMore' })
  end
  self:clear()
  vim.api.nvim_buf_set_extmark(self.bufnr, namespace, row - 1, col, {
    virt_text = lines[1],
    virt_text_pos = (rests[index].over or '') == '' and 'inline' or 'overlay',
    virt_lines = vim.list_slice(lines, 2),
    hl_mode = 'combine',
  })
  return true
end

function View:clear()
  vim.api.nvim_buf_clear_namespace(self.bufnr, namespace, 0, -1)
end

--- Pass the shown item to `insert`, which decides how much of it to insert.
---@param item fim.Item the session's item
---@param insert fun(item: fim.Item)
---@return boolean accepted
function View:accept(item, insert)
  insert(item)
  return true
end

return M
