-- The command :Fim.

local M = {}

local function say(text)
  vim.api.nvim_echo({ { text } }, true, {})
end

---@type table<string, fun(argument?: string, words: string[], lines?: { [1]: integer, [2]: integer })>
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
  require('fim').note('why')
end

--- 5, 60, another number of minutes, buffer, filetype, or off.
function commands.snooze(scope)
  local known = scope == 'buffer' or scope == 'filetype' or scope == 'off'
  local minutes = tonumber(scope or '5')
  if not known and not (minutes and minutes > 0) then
    local usage = 'fim: :Fim snooze MINUTES, or buffer, filetype, off; not ' .. scope
    return vim.notify(usage, vim.log.levels.ERROR)
  end
  require('fim').snooze(known and scope or minutes)
  say('fim: ' .. (require('fim.snooze').reason(vim.api.nvim_get_current_buf()) or 'awake'))
end

function commands.alternatives()
  require('fim').alternatives()
end

--- Edit the lines of the range, or the cursor's, as the words say.
function commands.edit(_, words, lines)
  local edit, row = require('fim.edit'), vim.api.nvim_win_get_cursor(0)[1]
  edit.range(table.concat(words, ' '), edit.lines(lines and lines[1] or row, lines and lines[2] or row))
end

--- Ask about the lines of the range, or the buffer.
function commands.ask(_, words, lines)
  local range = lines and require('fim.edit').lines(lines[1], lines[2])
  require('fim.ask').start(table.concat(words, ' '), range)
end

function commands.tour()
  require('fim.tour').start()
end

function commands.stats()
  local client = require('fim.status').client()
  if not client then
    return say('fim: no server runs for this buffer')
  end
  client:request('fim/statistics', vim.NIL, function(err, result)
    if err or not result then
      return say('fim: the server did not tell its counts')
    end
    local function words(counts)
      local text = '%d suggestions, %d in part, %d characters, %d edits'
      return text:format(counts.accepted, counts.partly_accepted, counts.characters, counts.edits_accepted)
    end
    say(('accepted today: %s\nin all: %s'):format(words(result.today), words(result.total)))
  end)
end

-- Entries of :Fim menu, as arguments of :Fim.
local entries = {
  { 'Turn suggestions on or off', 'toggle' },
  { 'Turn them on or off in this buffer', 'toggle', 'buffer' },
  { 'Snooze for 5 minutes', 'snooze', '5' },
  { 'Snooze for 1 hour', 'snooze', '60' },
  { 'Snooze in this buffer', 'snooze', 'buffer' },
  { 'Snooze for this file type', 'snooze', 'filetype' },
  { 'Wake up', 'snooze', 'off' },
  { 'Why was nothing shown?', 'why' },
  { 'Alternatives side by side', 'alternatives' },
  { 'Edit this line with an instruction', 'edit' },
  { 'Ask about this buffer', 'ask' },
  { 'What was accepted', 'stats' },
  { 'Edit the settings of all editors', 'settings' },
  { 'Restart the server', 'restart' },
  { 'Open the log', 'log' },
  { 'Take the tour', 'tour' },
}

function commands.menu()
  local status = require('fim.status').get()
  vim.ui.select(entries, {
    prompt = ('fim: %s (%s)'):format(status.state, status.message),
    format_item = function(entry)
      return entry[1]
    end,
  }, function(entry)
    if entry then
      M.run(vim.list_slice(entry, 2))
    end
  end)
end

--- The settings file that the server reads before the editor's settings.
function commands.settings()
  local home = vim.env.XDG_CONFIG_HOME or vim.fs.joinpath(vim.env.HOME, '.config')
  if vim.fn.has('mac') == 1 then
    home = vim.fs.joinpath(vim.env.HOME, 'Library', 'Application Support')
  end
  local file = vim.fs.joinpath(home, 'fim-server', 'config.toml')
  vim.fn.mkdir(vim.fs.dirname(file), 'p')
  vim.cmd.tabedit(vim.fn.fnameescape(file))
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
---@param lines? { [1]: integer, [2]: integer } the range of the command
function M.run(arguments, lines)
  local name = arguments[1] or 'status'
  local command = commands[name]
  if not command then
    local known = table.concat(M.complete('', 'Fim '), ', ')
    return vim.notify(('fim: %s is unknown; say one of %s'):format(name, known), vim.log.levels.ERROR)
  end
  command(arguments[2], vim.list_slice(arguments, 2), lines)
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
  elseif line:match('^%S+%s+snooze%s') then
    words = { '5', '60', 'buffer', 'filetype', 'off' }
  end
  table.sort(words)
  return vim.tbl_filter(function(word)
    return vim.startswith(word, lead)
  end, words)
end

return M
