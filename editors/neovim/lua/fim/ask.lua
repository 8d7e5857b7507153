-- `:[range]Fim ask`: a conversation about the buffer or the selected lines, in a window beside it.
--
-- Keys there: i asks, <CR> on a code block shows it as a diff in the code, <C-c> stops the answer, q
-- closes the window.

local edit = require('fim.edit')

local M = {}

local USER, MODEL = '## You', '## fim'

---@class fim.Talk
---@field bufnr integer of the conversation
---@field source integer buffer that is talked about
---@field range? lsp.Range the lines that are talked about; nil for the buffer
---@field messages { role: string, content: string }[]
---@field token? integer of the answer that is being written
---@field request? integer
---@field client vim.lsp.Client
---@field first? integer line, from 0, where the answer begins

local talk ---@type fim.Talk?
local tokens = 0

---@param current fim.Talk
---@param first integer line, from 0, from which the buffer's text is replaced
---@param text string
local function write(current, first, text)
  if not vim.api.nvim_buf_is_valid(current.bufnr) then
    return
  end
  vim.bo[current.bufnr].modifiable = true
  vim.api.nvim_buf_set_lines(current.bufnr, first, -1, false, vim.split(text, '\n', { plain = true }))
  vim.bo[current.bufnr].modifiable = false
  for _, window in ipairs(vim.fn.win_findbuf(current.bufnr)) do
    vim.api.nvim_win_set_cursor(window, { vim.api.nvim_buf_line_count(current.bufnr), 0 })
  end
end

--- The answer so far (`fim/answer`).
---@param params { token: integer, text: string }
function M.receive(params)
  if talk and talk.first and talk.token == params.token then
    write(talk, talk.first, params.text)
  end
end

--- Stop the answer that is being written.
function M.stop()
  if talk and talk.request then
    talk.client:cancel_request(talk.request)
    talk.request, talk.token = nil, nil
    local said = table.concat(vim.api.nvim_buf_get_lines(talk.bufnr, talk.first, -1, false), '\n')
    table.insert(talk.messages, { role = 'assistant', content = said })
  end
end

---@param current fim.Talk
---@param question string
local function send(current, question)
  M.stop()
  tokens = tokens + 1
  local token = tokens
  table.insert(current.messages, { role = 'user', content = question })
  local count = vim.api.nvim_buf_line_count(current.bufnr)
  local empty = count == 1 and vim.api.nvim_buf_get_lines(current.bufnr, 0, 1, false)[1] == ''
  local head = (empty and '' or '\n') .. USER .. '\n\n' .. question .. '\n\n' .. MODEL .. '\n\n…'
  write(current, empty and 0 or count, head)
  current.token, current.first = token, vim.api.nvim_buf_line_count(current.bufnr) - 1
  local params = { messages = current.messages, token = token }
  if vim.api.nvim_buf_is_valid(current.source) then
    params.textDocument = { uri = vim.uri_from_bufnr(current.source) }
    params.range = current.range
  end
  local _, id = current.client:request('fim/ask', params, function(err, result)
    if current.token ~= token then
      return
    end
    current.request, current.token = nil, nil
    if err then
      table.remove(current.messages)
      return write(current, current.first, 'No answer: ' .. err.message)
    end
    table.insert(current.messages, { role = 'assistant', content = result.text })
    write(current, current.first, (result.text:gsub('\n+$', '')))
  end, current.source)
  current.request = id
end

---@param current fim.Talk
local function ask(current)
  vim.ui.input({ prompt = 'Ask: ' }, function(typed)
    if typed and vim.trim(typed) ~= '' and vim.api.nvim_buf_is_valid(current.bufnr) then
      send(current, typed)
    end
  end)
end

--- The code block around a line.
---@param lines string[]
---@param at integer line from 1; a fence belongs to its block
---@return string? code nil outside a block
function M.block(lines, at)
  local open
  for number, line in ipairs(lines) do
    if line:match('^%s*```') then
      if open then
        if open <= at and at <= number then
          return table.concat(vim.list_slice(lines, open + 1, number - 1), '\n')
        end
        open = nil
      else
        open = number
      end
    end
  end
  return nil
end

--- Show the code block under the cursor as a diff: of the lines that were asked about, or below the
--- cursor's line in the code.
---@param current fim.Talk
local function insert(current)
  local lines = vim.api.nvim_buf_get_lines(current.bufnr, 0, -1, false)
  local code = M.block(lines, vim.api.nvim_win_get_cursor(0)[1])
  if not code then
    return vim.notify('fim: put the cursor in a code block; i asks a question', vim.log.levels.WARN)
  elseif not vim.api.nvim_buf_is_loaded(current.source) then
    return vim.notify('fim: the buffer that was asked about is closed', vim.log.levels.WARN)
  end
  local window = vim.fn.win_findbuf(current.source)[1]
  if window then
    vim.api.nvim_set_current_win(window)
  else
    vim.cmd('leftabove vertical sbuffer ' .. current.source)
  end
  local range = current.range
  if not range then
    local row = vim.api.nvim_win_get_cursor(0)[1] - 1
    range = { start = { line = row, character = 0 }, ['end'] = { line = row, character = 0 } }
  end
  local tick = vim.api.nvim_buf_get_changedtick(current.source)
  local document = { uri = vim.uri_from_bufnr(current.source) }
  document.version = vim.lsp.util.buf_versions[current.source]
  local params = { textDocument = document, range = range, text = code }
  current.client:request('fim/propose', params, function(err, result)
    if err then
      return vim.notify('fim: ' .. err.message, vim.log.levels.WARN)
    end
    edit.review(current.client, current.source, tick, result)
  end, current.source)
end

---@param current fim.Talk
local function open(current)
  vim.cmd('botright vertical new')
  current.bufnr = vim.api.nvim_get_current_buf()
  local options = vim.bo[current.bufnr]
  options.buftype, options.bufhidden, options.swapfile = 'nofile', 'wipe', false
  options.modifiable, options.filetype = false, 'markdown'
  vim.wo.wrap, vim.wo.linebreak = true, true
  local function map(key, action)
    vim.keymap.set('n', key, function()
      action(current)
    end, { buffer = current.bufnr, nowait = true })
  end
  map('i', ask)
  map('<CR>', insert)
  map('<C-c>', M.stop)
  map('q', function()
    vim.api.nvim_buf_delete(current.bufnr, { force = true })
  end)
  vim.api.nvim_create_autocmd('BufWipeout', {
    buffer = current.bufnr,
    callback = function()
      M.stop()
      talk = nil
    end,
  })
end

--- Ask about the current buffer or some of its lines.
---@param question? string asked for if there is none
---@param range? lsp.Range
function M.start(question, range)
  local source = vim.api.nvim_get_current_buf()
  if talk and source == talk.bufnr then
    source = talk.source -- asked in the conversation's own window
  end
  local client = require('fim.status').client(source)
  if not client then
    return vim.notify('fim: no server runs for this buffer', vim.log.levels.WARN)
  end
  if talk and vim.api.nvim_buf_is_valid(talk.bufnr) and talk.source == source and not range then
    local window = vim.fn.win_findbuf(talk.bufnr)[1]
    if window then
      vim.api.nvim_set_current_win(window)
    end
  else
    if talk and vim.api.nvim_buf_is_valid(talk.bufnr) then
      vim.api.nvim_buf_delete(talk.bufnr, { force = true })
    end
    talk = { source = source, range = range, messages = {}, client = client }
    open(talk)
  end
  if question and vim.trim(question) ~= '' then
    send(talk, question)
  else
    ask(talk)
  end
end

return M
