-- Restarting the server: on request, and when it exits unexpectedly.

local config = require('fim.config')
local status = require('fim.status')

local M = {}

local ATTEMPTS, WITHIN_MS, PAUSE_MS, PATIENCE_MS = 3, 60000, 500, 3000

---@type number[] times at which the server exited unexpectedly, in ms
local crashes = {}
local restarting = false

local function running()
  return vim.lsp.get_clients({ name = config.client_name() })
end

--- Restart the server with the current settings.
function M.now()
  local name = config.client_name()
  restarting = true
  crashes = {}
  vim.lsp.enable(name, false)
  vim.wait(PATIENCE_MS, function()
    return #running() == 0
  end, 20)
  for _, client in ipairs(running()) do
    client:stop(true)
  end
  status.server_ended()
  restarting = false
  vim.lsp.enable(name)
end

--- Restart a server that exited unexpectedly, a limited number of times.
---@param code integer
---@param signal integer
function M.after_exit(code, signal)
  if restarting or (code == 0 and signal == 0) then
    return
  end
  vim.schedule(function()
    if vim.v.exiting ~= vim.NIL or not vim.lsp.is_enabled(config.client_name()) then
      return
    end
    local now = vim.uv.now()
    crashes = vim.tbl_filter(function(time)
      return now - time < WITHIN_MS
    end, crashes)
    table.insert(crashes, now)
    local how = signal ~= 0 and ('signal %d'):format(signal) or ('exit code %d'):format(code)
    if #crashes > ATTEMPTS then
      local message = ('the server ended again (%s); see :Fim log, then :Fim restart'):format(how)
      status.server_ended(message)
      vim.notify('fim: ' .. message, vim.log.levels.ERROR)
      return
    end
    status.server_ended()
    vim.defer_fn(function()
      vim.lsp.enable(config.client_name())
    end, PAUSE_MS * #crashes)
  end)
end

return M
