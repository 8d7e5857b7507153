-- The server's state, for :Fim status, :checkhealth and status lines.

local buffers = require('fim.buffers')
local config = require('fim.config')
local snooze = require('fim.snooze')

local M = {}

---@class fim.Status
---@field state 'off'|'starting'|'loading'|'ready'|'busy'|'paused'|'error'
---@field message string one line: what the state means here
---@field model string
---@field latency_ms? number latency of the last answer in this buffer
---@field why? string why nothing is shown in this buffer

---@class fim.ServerStatus
---@field kind? string
---@field message? string
---@field busy? boolean
---@field why? string
---@field adapter? boolean
---@field error? string
---@field loading? string

---@type fim.ServerStatus
local server = {}

--- The server's own status (`didChangeStatus`).
---@param params { busy?: boolean, message?: string, kind?: string, why?: string, adapter?: boolean }
function M.server_says(params)
  server.kind, server.message, server.busy = params.kind, params.message, params.busy
  server.why, server.adapter = params.why, params.adapter
end

--- Why the last request had no suggestion, in the server's words.
---@return string
function M.server_why()
  local why = server.why
  return why ~= nil and why ~= '' and why or 'the server had nothing to suggest'
end

---@param params lsp.ShowMessageParams
function M.server_message(params)
  if params.type == vim.lsp.protocol.MessageType.Error then
    server.error = params.message
  end
end

---@param message? string the error of the process; nil clears the state of the old process
function M.server_ended(message)
  server = { error = message }
end

--- Follow the progress of loading the model.
function M.watch()
  vim.api.nvim_create_autocmd('LspProgress', {
    group = vim.api.nvim_create_augroup('fim.progress', {}),
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and config.is_ours(client.name) then
        local value = event.data.params.value
        local share = value.percentage and (' %d %%'):format(value.percentage) or ''
        server.loading = value.kind ~= 'end' and (value.message or 'Loading') .. share or nil
      end
    end,
  })
end

---@param bufnr? integer
---@return vim.lsp.Client?
function M.client(bufnr)
  for _, client in ipairs(vim.lsp.get_clients({ bufnr = bufnr or 0 })) do
    if config.is_ours(client.name) then
      return client
    end
  end
end

---@param client? vim.lsp.Client
---@param current? fim.Session
---@return string state, string message
local function state_of(client, current)
  if server.error then
    return 'error', server.error
  elseif not client then
    return 'off', "no server runs for this buffer; vim.lsp.enable('fim') starts it in files"
  elseif not current then
    return 'error', 'the server does not offer inline completion; is `cmd` the fim-server?'
  elseif server.loading or (server.busy and server.message ~= '') then
    return 'loading', server.loading or server.message
  elseif vim.g.fim_enabled == false or vim.b[current.bufnr].fim_enabled == false then
    return 'paused', current:held_back() or 'paused'
  elseif snooze.reason(current.bufnr) then
    return 'paused', assert(snooze.reason(current.bufnr))
  elseif not server.kind then
    return 'starting', 'the server starts'
  elseif server.kind ~= 'Normal' then
    return server.kind == 'Inactive' and 'paused' or 'error', server.message or server.kind
  elseif server.busy or current.request_id then
    return 'busy', 'the server is writing'
  end
  return 'ready', 'waiting for your keys'
end

--- The state as it applies to a buffer.
---@param bufnr? integer
---@return fim.Status
function M.get(bufnr)
  local client = M.client(bufnr)
  local current = buffers.get(bufnr)
  local state, message = state_of(client, current)
  local options = client and client.config.init_options or config.get().server
  return {
    state = state,
    message = message,
    model = (type(options) == 'table' and options.model or 'the one that ships')
      .. (server.adapter and ', tuned to this workspace' or ''),
    latency_ms = current and current.latency_ms,
    why = current and current.why,
  }
end

return M
