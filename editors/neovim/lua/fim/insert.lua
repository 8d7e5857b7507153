-- Inserting accepted text into the buffer, as one undo step.

local M = {}

---@type { text: string, over: integer, done: fun() }[]
local waiting = {}

-- Only |i_CTRL-G_u| closes an undo step correctly: setting 'undolevels' in insert mode would leave
-- the text typed next without an undo entry.
local keys = vim.keycode("<C-G>u<Cmd>lua require('fim.insert').run()<CR><C-G>u")

--- Insert text at the cursor, before any key typed since. May be called under textlock.
---@param text string
---@param over integer number of bytes right of the cursor that it replaces
---@param done fun() called after the insertion
function M.queue(text, over, done)
  table.insert(waiting, { text = text, over = over, done = done })
  vim.api.nvim_feedkeys(keys, 'ni', false)
end

--- Insert the queued text; called from the keys that `queue` feeds.
function M.run()
  local next = table.remove(waiting, 1)
  if not next then
    return
  end
  if not vim.bo.modifiable then
    vim.notify('fim: this buffer cannot be changed', vim.log.levels.WARN)
    return
  end
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local lines = vim.split(next.text, '\n', { plain = true })
  local last = math.min(col + next.over, #vim.api.nvim_get_current_line())
  vim.api.nvim_buf_set_text(0, row - 1, col, row - 1, last, lines)
  vim.api.nvim_win_set_cursor(0, { row + #lines - 1, (#lines == 1 and col or 0) + #lines[#lines] })
  next.done()
end

return M
