-- The plugin's public interface: `setup` and one function for each action of a key.

local buffers = require('fim.buffers')
local config = require('fim.config')
local next_edit = require('fim.next_edit')
local suggestions = require('fim.suggestion')

local M = {}

--- Our client's configuration under the name that another plugin looks for.
---@return vim.lsp.Config
local function borrowed_name()
  local client = vim.deepcopy(vim.lsp.config.fim)
  -- Neovim merges in that plugin's own lsp/<name>.lua, whose options are for another server.
  client.before_init = function(params)
    local server = config.get().server
    params.initializationOptions = next(server) and server or nil
  end
  if config.get().next_edit == 'copilot-lsp' then
    -- That plugin counts in UTF-16, whatever encoding was negotiated.
    client.capabilities.general = { positionEncodings = { 'utf-16' } }
  end
  return client
end

--- Tell that the user has done something: the event `User FimAction`, data = { name = … }.
---@param name string
local function note(name)
  vim.schedule(function()
    vim.api.nvim_exec_autocmds('User', { pattern = 'FimAction', modeline = false, data = { name = name } })
  end)
end
M.note = note

--- Apply options, enable the server for all files, set the configured keys.
---@param options? table see fim.config
function M.setup(options)
  -- Plugin managers that add this folder after the start have not sourced it.
  vim.cmd.runtime('plugin/fim.lua')
  for _, problem in ipairs(config.set(options)) do
    vim.notify('fim: ' .. problem, vim.log.levels.ERROR)
  end
  local chosen = config.get()
  local name = config.client_name()
  if name ~= 'fim' then
    vim.lsp.config(name, borrowed_name())
  end
  vim.lsp.config(name, {
    cmd = chosen.cmd,
    init_options = next(chosen.server) and chosen.server or nil,
    capabilities = {
      experimental = { fim = { nextEdit = chosen.next_edit == 'fim', replaceRest = true, status = true } },
    },
  })
  vim.lsp.enable(name)
  require('fim.keys').set(chosen.keys)
end

---@param name string of the action
---@param cut fun(text: string): string
local function accept(name, cut)
  local current = buffers.get()
  local accepted = current ~= nil and current:accept(cut)
  if accepted then
    note(name)
  end
  return accepted
end

--- Accept the whole suggestion; false if there is none, so that a mapping can fall back.
---@return boolean accepted
function M.accept()
  return accept('accept', function(text)
    return text
  end)
end

---@return boolean accepted
function M.accept_word()
  return accept('accept_word', suggestions.first_word)
end

---@return boolean accepted
function M.accept_line()
  return accept('accept_line', suggestions.first_line)
end

--- Show the next alternative.
---@return boolean whether there is a suggestion
function M.next()
  local current = buffers.get()
  note('next')
  return current ~= nil and current:cycle(1)
end

--- Show the previous alternative.
---@return boolean whether there is a suggestion
function M.previous()
  local current = buffers.get()
  note('previous')
  return current ~= nil and current:cycle(-1)
end

--- Dismiss the suggestion, or the next edit that is shown.
---@return boolean whether there was one
function M.dismiss()
  local current = buffers.get()
  return (current ~= nil and current:dismiss()) or next_edit.reject()
end

--- Request a suggestion now, with alternatives.
function M.trigger()
  local current = buffers.get()
  if current then
    current:trigger()
  end
end

--- Show all suggestions for the cursor side by side.
function M.alternatives()
  note('alternatives')
  require('fim.alternatives').show()
end

--- Snooze suggestions: for minutes, or until Neovim exits in this buffer or for its file type.
---@param scope number|'buffer'|'filetype'|'off'
function M.snooze(scope)
  local snooze, bufnr = require('fim.snooze'), vim.api.nvim_get_current_buf()
  if scope == 'off' then
    snooze.wake()
  elseif scope == 'buffer' then
    snooze.buffer(bufnr)
  elseif scope == 'filetype' then
    snooze.filetype(vim.bo[bufnr].filetype)
  else
    snooze.minutes(assert(tonumber(scope)))
  end
  note('snooze')
  local current = buffers.get()
  if current then
    current:on_typed()
  end
end

--- Turn suggestions on or off, everywhere or in one buffer.
---@param bufnr? integer
---@return boolean enabled
function M.toggle(bufnr)
  local scope = bufnr and vim.b[bufnr] or vim.g
  scope.fim_enabled = scope.fim_enabled == false
  local current = buffers.get()
  if current then
    current:on_typed()
  end
  return scope.fim_enabled
end

--- Go to the next edit, or apply it if the cursor is there already.
---@return boolean whether there is one
function M.next_edit()
  note('next_edit')
  return next_edit.accept()
end

--- `next_edit` for an expression mapping, in which text must not change.
---@return boolean whether there is one
function M.go_to_edit()
  if next_edit.visible() and next_edit.accept_soon() then
    note('next_edit')
    return true
  end
  return false
end

--- The action of `<Tab>`: accept ghost text, else go to or apply a next edit, else jump in a snippet,
--- else select the menu's next entry, else the fallback. For a mapping with `expr = true`.
---@param fallback? fun(): string returns the keys if nothing else applies
---@return string keys
function M.tab(fallback)
  local current = buffers.get()
  if not (current and current.visible) and M.go_to_edit() then
    return ''
  elseif M.accept() then
    return ''
  elseif vim.snippet.active({ direction = 1 }) then
    return '<Cmd>lua vim.snippet.jump(1)<CR>'
  elseif vim.fn.pumvisible() == 1 then
    return '<C-N>'
  end
  return fallback and fallback() or '<Tab>'
end

--- The suggestion that is shown, for other plugins.
---@return { text: string, count: integer, index: integer }? nil if no ghost text is shown
function M.suggestion()
  local current = buffers.get()
  if not current or not current.visible then
    return nil
  end
  local rests, shown = current:rests()
  return rests[shown] and { text = rests[shown].text, count = #rests, index = shown } or nil
end

return M
