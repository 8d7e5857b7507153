-- Snoozing: for a time, in some buffers, for some file types, until Neovim exits. What is requested
-- by key is still answered.

local M = {}

local until_ms = 0 -- by vim.uv.now()
local until_clock = ''
local buffers = {} ---@type table<integer, true>
local filetypes = {} ---@type table<string, true>

---@param minutes number
function M.minutes(minutes)
  vim.uv.update_time()
  until_ms = vim.uv.now() + minutes * 60000
  until_clock = tostring(os.date('%H:%M', os.time() + math.floor(minutes * 60)))
end

---@param bufnr integer
function M.buffer(bufnr)
  buffers[bufnr] = true
end

---@param filetype string
function M.filetype(filetype)
  filetypes[filetype] = true
end

function M.wake()
  until_ms, buffers, filetypes = 0, {}, {}
end

--- Why there are no suggestions in a buffer now; nil if it is not snoozed.
---@param bufnr integer
---@return string?
function M.reason(bufnr)
  vim.uv.update_time()
  local wakes = '; :Fim snooze off wakes it'
  if vim.uv.now() < until_ms then
    return 'snoozed until ' .. until_clock .. wakes
  elseif buffers[bufnr] then
    return 'snoozed in this buffer' .. wakes
  elseif filetypes[vim.bo[bufnr].filetype] then
    return 'snoozed for ' .. vim.bo[bufnr].filetype .. wakes
  end
end

return M
