-- Edits by instruction: `:[range]FimEdit {instruction}`. The server's hunks are reviewed one by one.

local M = {}

local NOT_OPEN = 'fim: no server runs for this buffer'

---@type { client: vim.lsp.Client, id: integer }? the request that is being answered
local pending

local function say(text)
  vim.api.nvim_echo({ { text } }, true, {})
end

--- Cancel the instruction that is being followed.
---@return boolean whether there was one
function M.stop()
  local was = pending
  pending = nil
  if was then
    was.client:cancel_request(was.id)
  end
  return was ~= nil
end

--- Show the edits of an answer, which belong to one state of a buffer.
---@param client vim.lsp.Client
---@param bufnr integer
---@param tick integer changedtick of the buffer when the server was asked
---@param result { edits: fim.NextEdit[] }
function M.review(client, bufnr, tick, result)
  if vim.api.nvim_get_current_buf() ~= bufnr then
    return vim.notify('fim: the edit is dropped, since its buffer was left', vim.log.levels.WARN)
  elseif vim.api.nvim_buf_get_changedtick(bufnr) ~= tick then
    return vim.notify('fim: the text has changed meanwhile; ask again', vim.log.levels.WARN)
  elseif not vim.bo[bufnr].modifiable then
    return vim.notify("fim: this buffer is not 'modifiable'", vim.log.levels.WARN)
  end
  local count = require('fim.next_edit').review(result, client.id)
  if count == 0 then
    return say('fim: the model would leave these lines as they are')
  end
  say(('fim: %d hunk%s: y accept, n refuse, a all, q none'):format(count, count == 1 and '' or 's'))
end

--- Have lines rewritten.
---@param instruction string
---@param range lsp.Range
local function send(instruction, range)
  local bufnr, client = vim.api.nvim_get_current_buf(), require('fim.status').client()
  if not client then
    return vim.notify(NOT_OPEN, vim.log.levels.WARN)
  end
  M.stop()
  require('fim.next_edit').dismiss()
  local tick = vim.api.nvim_buf_get_changedtick(bufnr)
  local place = { uri = vim.uri_from_bufnr(bufnr), range = range, instruction = instruction }
  place.version = vim.lsp.util.buf_versions[bufnr]
  local params = { command = 'fim.instruct', arguments = { place } }
  local sent, id
  sent, id = client:request('workspace/executeCommand', params, function(err, result)
    if not pending or pending.id ~= id then
      return
    end
    pending = nil
    if err then
      return vim.notify('fim: ' .. err.message, vim.log.levels.WARN)
    end
    M.review(client, bufnr, tick, result)
  end, bufnr)
  pending = sent and id and { client = client, id = id } or nil
  say('fim: editing …')
end

--- Rewrite lines as an instruction says; asks for it if there is none.
---@param instruction? string
---@param range lsp.Range
function M.range(instruction, range)
  if instruction and vim.trim(instruction) ~= '' then
    return send(instruction, range)
  end
  vim.ui.input({ prompt = 'Edit: ' }, function(typed)
    if typed and vim.trim(typed) ~= '' then
      send(typed, range)
    end
  end)
end

--- Whole lines as a range.
---@param first integer from 1
---@param last integer inclusive
---@return lsp.Range
function M.lines(first, last)
  return { start = { line = first - 1, character = 0 }, ['end'] = { line = last, character = 0 } }
end

return M
