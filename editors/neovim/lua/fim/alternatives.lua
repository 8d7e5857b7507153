-- All suggestions for the cursor in windows side by side: a number, or <CR> in a window, accepts one.

local M = {}

local INVOKED = 1
local MAX_HEIGHT = 12

---@class fim.Panel
---@field windows integer[]
---@field items fim.Item[]
---@field place { window: integer, bufnr: integer, row: integer, col: integer, tick: integer }
---@field client vim.lsp.Client
---@field insert boolean whether to go back to insert mode

---@param panel fim.Panel
local function close(panel)
  for _, window in ipairs(panel.windows) do
    if vim.api.nvim_win_is_valid(window) then
      vim.api.nvim_win_close(window, true)
    end
  end
  if vim.api.nvim_win_is_valid(panel.place.window) then
    vim.api.nvim_set_current_win(panel.place.window)
  end
end

---@param panel fim.Panel
---@param index integer
local function accept(panel, index)
  local item, place = panel.items[index], panel.place
  close(panel)
  if not item then
    return
  end
  if vim.api.nvim_buf_get_changedtick(place.bufnr) ~= place.tick then
    return vim.notify('fim: the text has changed since these suggestions were made', vim.log.levels.WARN)
  end
  local lines = vim.split(item.text, '\n', { plain = true })
  local last = place.col + #(item.over or '')
  vim.api.nvim_buf_set_text(place.bufnr, place.row, place.col, place.row, last, lines)
  local col = (#lines == 1 and place.col or 0) + #lines[#lines]
  if panel.insert then
    vim.cmd.startinsert()
  end
  vim.api.nvim_win_set_cursor(place.window, { place.row + #lines, col })
  if item.command then
    panel.client:exec_cmd(item.command, { bufnr = place.bufnr })
  end
end

---@param panel fim.Panel
---@param bufnr integer
---@param index integer of the window that the buffer is shown in
local function set_keys(panel, bufnr, index)
  local function map(lhs, action)
    vim.keymap.set('n', lhs, action, { buffer = bufnr, nowait = true })
  end
  local function move(step)
    return function()
      vim.api.nvim_set_current_win(panel.windows[(index - 1 + step) % #panel.windows + 1])
    end
  end
  for number = 1, math.min(9, #panel.items) do
    map(tostring(number), function()
      accept(panel, number)
    end)
  end
  map('<CR>', function()
    accept(panel, index)
  end)
  for _, lhs in ipairs({ 'q', '<Esc>' }) do
    map(lhs, function()
      close(panel)
      if panel.insert then
        vim.cmd.startinsert()
        vim.api.nvim_win_set_cursor(panel.place.window, { panel.place.row + 1, panel.place.col })
      end
    end)
  end
  map('<Tab>', move(1))
  map('l', move(1))
  map('h', move(-1))
end

--- Draw the items below the cursor.
---@param panel fim.Panel
local function draw(panel)
  local line = vim.api.nvim_buf_get_lines(panel.place.bufnr, panel.place.row, panel.place.row + 1, false)[1]
  local before, after = line:sub(1, panel.place.col), line:sub(panel.place.col + 1)
  local width = math.max(12, math.floor(vim.o.columns / #panel.items) - 2)
  local height = 1
  for _, item in ipairs(panel.items) do
    height = math.max(height, select(2, item.text:gsub('\n', '\n')) + 1)
  end
  for index, item in ipairs(panel.items) do
    local bufnr = vim.api.nvim_create_buf(false, true)
    local text = vim.trim(before) ~= '' and before:gsub('^%s+', '') or ''
    local whole = text .. item.text .. after:sub(#(item.over or '') + 1)
    vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, vim.split(whole, '\n', { plain = true }))
    vim.bo[bufnr].filetype = vim.bo[panel.place.bufnr].filetype
    vim.bo[bufnr].modifiable, vim.bo[bufnr].bufhidden = false, 'wipe'
    panel.windows[index] = vim.api.nvim_open_win(bufnr, index == 1, {
      relative = 'editor',
      row = math.max(0, vim.o.lines - math.min(height, MAX_HEIGHT) - 4),
      col = (index - 1) * (width + 2),
      width = width,
      height = math.min(height, MAX_HEIGHT),
      border = 'rounded',
      style = 'minimal',
      title = (' %d '):format(index),
    })
    set_keys(panel, bufnr, index)
  end
end

--- Request suggestions at the cursor and show them.
function M.show()
  local current = require('fim.buffers').get()
  local client = current and current.client
  if not current or not client then
    return vim.notify('fim: no server runs for this buffer', vim.log.levels.WARN)
  end
  local insert = vim.api.nvim_get_mode().mode:match('^i') ~= nil
  local window, bufnr = vim.api.nvim_get_current_win(), vim.api.nvim_get_current_buf()
  local row, col = unpack(vim.api.nvim_win_get_cursor(window))
  local line = vim.api.nvim_get_current_line()
  local params = vim.lsp.util.make_position_params(window, client.offset_encoding)
  if not insert and col == #line - 1 then -- the cursor on the last character: after it
    col = #line
    params.position.character = vim.str_utfindex(line, client.offset_encoding, #line, false)
  end
  local place = { window = window, bufnr = bufnr, row = row - 1, col = col }
  place.tick = vim.api.nvim_buf_get_changedtick(bufnr)
  params.context = { triggerKind = INVOKED }
  local anchor = { row = row - 1, before = line:sub(1, col), after = line:sub(col + 1) }
  -- By the view: it intercepts what others request of this client.
  current.view:request(params, function(err, result)
    local items = require('fim.session').items_of(result, anchor, client.offset_encoding)
    if err or #items == 0 then
      return vim.notify('fim: no suggestion here: ' .. (err and err.message or require('fim.status').server_why()))
    end
    if vim.api.nvim_get_current_buf() ~= bufnr then
      return
    end
    vim.cmd.stopinsert()
    draw({ windows = {}, items = items, place = place, client = client, insert = insert })
  end)
end

return M
