-- The command :Fim.

local M = {}

local function say(text)
  vim.api.nvim_echo({ { text } }, true, {})
end

---@type table<string, fun(argument?: string)>
local commands = {}

function commands.status()
  local status = require('fim.status').get()
  local lines = {
    ('fim: %s (%s)'):format(status.state, status.message),
    ('model: %s'):format(status.model),
    ('display: %s'):format(require('fim.config').display()),
  }
  if status.latency_ms then
    table.insert(lines, ('last answer: %.0f ms'):format(status.latency_ms))
  end
  say(table.concat(lines, '\n'))
end

function commands.why()
  local status = require('fim.status').get()
  local usual = status.state == 'ready' or status.state == 'busy'
  say('fim: ' .. (usual and status.why or status.message))
end

function commands.restart()
  require('fim.restart').now()
  say('fim: the server starts again')
end

function commands.model(path)
  if not path then
    return say('fim: the model is ' .. require('fim.status').get().model)
  end
  local server = require('fim.config').get().server
  server.model = path ~= 'default' and vim.fs.normalize(path) or nil
  vim.lsp.config(require('fim.config').client_name(), { init_options = vim.deepcopy(server) })
  commands.restart()
end

function commands.log()
  vim.cmd.tabedit(vim.fn.fnameescape(vim.lsp.log.get_filename()))
  vim.cmd.normal({ 'G', bang = true })
end

function commands.toggle(scope)
  local enabled = require('fim').toggle(scope == 'buffer' and vim.api.nvim_get_current_buf() or nil)
  say(('fim: %s%s'):format(enabled and 'on' or 'off', scope == 'buffer' and ' in this buffer' or ''))
end

---@param arguments string[]
function M.run(arguments)
  local name = arguments[1] or 'status'
  local command = commands[name]
  if not command then
    local known = table.concat(M.complete('', 'Fim '), ', ')
    return vim.notify(('fim: %s is unknown; say one of %s'):format(name, known), vim.log.levels.ERROR)
  end
  command(arguments[2])
end

---@param lead string
---@param line string
---@return string[]
function M.complete(lead, line)
  local words = vim.tbl_keys(commands)
  if line:match('^%S+%s+model%s') then
    return vim.list_extend({ 'default' }, vim.fn.getcompletion(lead, 'dir'))
  elseif line:match('^%S+%s+toggle%s') then
    words = { 'buffer' }
  end
  table.sort(words)
  return vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, words)
end

return M
