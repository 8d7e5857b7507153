-- Next edits: changes that the server proposes elsewhere, shown in place, to jump to and apply.
--
-- They arrive as `fim/nextEdit { edits: [{ text, range, hunks?, textDocument { uri, version }, command? }] }`,
-- the items of Copilot's inline edits; ranges refer to the text before any of them is applied. `hunks`
-- is the same change as several small ones `{ text, range }`, from the top down.
-- Only an edit that is on the screen is applied, and only to a text that has not changed since.
--
-- Edits that the user asked for (`M.review`) are all drawn, and are accepted or refused one by one, with
-- the keys of `:s///c` in normal mode: y, n, a (all), q (none).

local config = require('fim.config')

local M = {}

local places = vim.api.nvim_create_namespace('fim.next_edit.places')
local drawing = vim.api.nvim_create_namespace('fim.next_edit')

---@class fim.Hunk
---@field text string
---@field range lsp.Range
---@field mark? integer extmark that tracks the range while other hunks are applied

---@class fim.NextEdit
---@field text string
---@field range lsp.Range
---@field hunks fim.Hunk[] at least one
---@field textDocument { uri: string, version?: integer }
---@field command? lsp.Command
---@field bufnr integer
---@field tick? integer changedtick of the buffer to which the range refers

---@type fim.NextEdit[] pending edits; the first is shown
local edits = {}
local client ---@type vim.lsp.Client?
local shown_in ---@type integer?
local asked = false -- whether the user asked for the edits
local keyed ---@type integer? buffer that has the keys of a review

local REVIEW_KEYS = { 'y', 'n', 'a', 'q' }

---@param edit fim.NextEdit
---@return boolean fits
local function track(edit)
  vim.fn.bufload(edit.bufnr)
  local version = edit.textDocument.version
  if version and version ~= vim.NIL and version ~= vim.lsp.util.buf_versions[edit.bufnr] then
    return false
  end
  local function place(position)
    local line = vim.api.nvim_buf_get_lines(edit.bufnr, position.line, position.line + 1, false)[1] or ''
    return position.line, vim.str_byteindex(line, client.offset_encoding, position.character, false)
  end
  for _, hunk in ipairs(edit.hunks) do
    local row, col = place(hunk.range.start)
    local end_row, end_col = place(hunk.range['end'])
    local ok, mark = pcall(vim.api.nvim_buf_set_extmark, edit.bufnr, places, row, col, {
      end_row = end_row,
      end_col = end_col,
      -- An insertion moves as a whole if the text right before it is replaced.
      end_right_gravity = row == end_row and col == end_col,
    })
    if not ok then
      return false
    end
    hunk.mark = mark
  end
  edit.tick = vim.api.nvim_buf_get_changedtick(edit.bufnr)
  return true
end

---@param edit fim.NextEdit
---@return boolean
local function is_stale(edit)
  return not vim.api.nvim_buf_is_loaded(edit.bufnr) or edit.tick ~= vim.api.nvim_buf_get_changedtick(edit.bufnr)
end

---@param bufnr integer
---@param hunk fim.Hunk
---@return integer row, integer col, integer end_row, integer end_col
local function where(bufnr, hunk)
  local mark = vim.api.nvim_buf_get_extmark_by_id(bufnr, places, hunk.mark, { details = true })
  return mark[1], mark[2], mark[3].end_row, mark[3].end_col
end

--- The new lines as Neovim keeps them, whatever line ends the file has.
---@param hunk fim.Hunk
---@return string[]
local function lines_of(hunk)
  return vim.split((hunk.text:gsub('\r\n?', '\n')), '\n', { plain = true })
end

local function hide()
  if shown_in and vim.api.nvim_buf_is_valid(shown_in) then
    vim.api.nvim_buf_clear_namespace(shown_in, drawing, 0, -1)
  end
  shown_in = nil
end

--- Highlight the removed text of each hunk, and show the new text after it. New text of several lines
--- is below the removed text, and new lines are where they will be.
---@param edit fim.NextEdit
local function draw(edit)
  vim.api.nvim_set_hl(0, 'FimEditOld', { link = 'DiffDelete', default = true })
  vim.api.nvim_set_hl(0, 'FimEditNew', { link = 'DiffAdd', default = true })
  local function mark(at_row, at_col, options)
    vim.api.nvim_buf_set_extmark(edit.bufnr, drawing, at_row, at_col, options)
  end
  for _, hunk in ipairs(edit.hunks) do
    local row, col, end_row, end_col = where(edit.bufnr, hunk)
    mark(row, col, { end_row = end_row, end_col = end_col, hl_group = 'FimEditOld' })
    local lines = lines_of(hunk)
    local inserts = row == end_row and col == end_col and #lines > 1
    local above = inserts and col == 0 and lines[#lines] == ''
    if above then
      table.remove(lines)
    elseif inserts and lines[1] == '' then
      table.remove(lines, 1)
    end
    if #lines == 1 and not inserts then
      mark(end_row, end_col, { virt_text = { { hunk.text, 'FimEditNew' } }, virt_text_pos = 'inline' })
    else
      local virt_lines = vim.tbl_map(function(line)
        return { { line, 'FimEditNew' } }
      end, lines)
      -- Lines above the first one of a window are not drawn, so they are shown below the line before.
      local below_previous = above and end_row > 0
      mark(below_previous and end_row - 1 or end_row, 0, {
        virt_lines = virt_lines,
        virt_lines_above = above and not below_previous,
      })
    end
  end
end

--- Report to the server what happened to an edit, which is returned as it was sent.
---@param method string
---@param edit fim.NextEdit
local function tell(method, edit)
  client:notify(method, {
    item = { text = edit.text, range = edit.range, textDocument = edit.textDocument, command = edit.command },
  })
end

local function remove_keys()
  for _, key in ipairs(keyed and vim.api.nvim_buf_is_valid(keyed) and REVIEW_KEYS or {}) do
    pcall(vim.keymap.del, 'n', key, { buffer = keyed })
  end
  keyed = nil
end

--- Show the first edit that still applies.
local function show()
  hide()
  while edits[1] and (not edits[1].tick and not track(edits[1]) or is_stale(edits[1])) do
    table.remove(edits, 1)
  end
  local edit = edits[1]
  if not edit then
    asked = false
    return remove_keys()
  end
  shown_in = edit.bufnr
  for index, other in ipairs(edits) do
    if index == 1 or (asked and other.bufnr == edit.bufnr and not is_stale(other)) then
      draw(other)
    end
  end
  vim.api.nvim_create_autocmd({ 'TextChanged', 'TextChangedI', 'BufUnload' }, {
    group = vim.api.nvim_create_augroup('fim.next_edit', {}),
    buffer = edit.bufnr,
    callback = function()
      if is_stale(edit) then
        M.dismiss()
      end
    end,
  })
  tell('textDocument/didShowInlineEdit', edit)
end

---@param params { edits?: fim.NextEdit[] }
---@param client_id integer
local function take(params, client_id)
  M.dismiss()
  client = vim.lsp.get_client_by_id(client_id)
  for _, edit in ipairs(client and params.edits or {}) do
    edit.bufnr = vim.uri_to_bufnr(edit.textDocument.uri)
    edit.hunks = edit.hunks and edit.hunks[1] and edit.hunks or { { text = edit.text, range = edit.range } }
    -- A file that is not open is loaded when its edit is shown.
    if not vim.api.nvim_buf_is_loaded(edit.bufnr) or track(edit) then
      table.insert(edits, edit)
    end
  end
end

--- Show the server's proposal; an empty one withdraws the last one. A review goes on undisturbed.
---@param params { edits?: fim.NextEdit[] }
---@param client_id integer
function M.receive(params, client_id)
  if config.get().next_edit == 'fim' and not asked then
    take(params, client_id)
    show()
  end
end

--- Put the cursor at the first edit.
local function go_there()
  local edit = edits[1]
  if edit and shown_in == vim.api.nvim_get_current_buf() then
    local row, col = where(edit.bufnr, edit.hunks[1])
    row = math.min(row, vim.api.nvim_buf_line_count(edit.bufnr) - 1)
    vim.api.nvim_win_set_cursor(0, { row + 1, col })
    vim.cmd('normal! zv')
  end
end

--- Show edits that the user asked for, all at once, to accept or refuse one by one.
---@param params { edits?: fim.NextEdit[] }
---@param client_id integer
---@return integer count of the edits that are shown
function M.review(params, client_id)
  take(params, client_id)
  asked = #edits > 0
  show()
  if not M.visible() then
    return 0
  end
  keyed = shown_in
  local actions = { y = M.accept, n = M.reject, a = M.accept_all, q = M.dismiss }
  for _, key in ipairs(REVIEW_KEYS) do
    vim.keymap.set('n', key, actions[key], { buffer = keyed, nowait = true, desc = 'fim: review of an edit' })
  end
  vim.cmd("normal! m'")
  go_there()
  return #edits
end

---@return boolean
function M.visible()
  return shown_in ~= nil
end

---@return boolean whether there was one
function M.dismiss()
  local was_visible = M.visible()
  hide()
  for _, edit in ipairs(edits) do
    if vim.api.nvim_buf_is_valid(edit.bufnr) then
      vim.api.nvim_buf_clear_namespace(edit.bufnr, places, 0, -1)
    end
  end
  edits, asked = {}, false
  remove_keys()
  return was_visible
end

--- Reject the edit that is shown: the server will not propose it here again. In a review, the next one
--- is shown.
---@return boolean whether there was one
function M.reject()
  if edits[1] and M.visible() then
    tell('textDocument/didRejectInlineEdit', edits[1])
    if asked then
      table.remove(edits, 1)
      show()
      go_there()
      return true
    end
  end
  return M.dismiss()
end

--- Apply all hunks, as one step of undo, and put the cursor at the end of the last one.
---@param edit fim.NextEdit
local function apply(edit)
  table.remove(edits, 1)
  hide()
  local row, col
  -- From the top down: the extmarks of the hunks below move.
  for _, hunk in ipairs(edit.hunks) do
    local lines = lines_of(hunk)
    local end_row, end_col
    row, col, end_row, end_col = where(edit.bufnr, hunk)
    vim.api.nvim_buf_set_text(edit.bufnr, row, col, end_row, end_col, lines)
    row, col = row + #lines - 1, (#lines == 1 and col or 0) + #lines[#lines]
  end
  local last = vim.api.nvim_buf_line_count(edit.bufnr) - 1
  vim.api.nvim_win_set_cursor(0, { math.min(row, last) + 1, col })
  -- Keep the other edits after our own change: their extmarks have moved with it.
  for _, other in ipairs(edits) do
    if other.bufnr == edit.bufnr and other.tick then
      other.tick = vim.api.nvim_buf_get_changedtick(edit.bufnr)
    end
  end
  if edit.command then
    client:exec_cmd(edit.command, { bufnr = edit.bufnr })
  end
  show()
end

--- Go to the shown edit; if the cursor is there already, apply it and show the next one.
---@return boolean whether there is one
function M.accept()
  local edit = edits[1]
  if not edit or not shown_in then
    return false
  elseif is_stale(edit) then
    return not M.dismiss()
  end
  local row, col = where(edit.bufnr, edit.hunks[1])
  local _, _, end_row = where(edit.bufnr, edit.hunks[#edit.hunks])
  local cursor = vim.api.nvim_win_get_cursor(0)[1] - 1
  if vim.api.nvim_get_current_buf() == edit.bufnr and row <= cursor and cursor <= end_row then
    apply(edit)
    if asked then
      go_there()
    end
  else
    vim.cmd("normal! m'")
    vim.api.nvim_win_set_buf(0, edit.bufnr)
    vim.api.nvim_win_set_cursor(0, { row + 1, col })
    vim.cmd('normal! zv')
  end
  return true
end

--- Accept all edits of a review: one step of undo.
---@return boolean whether there was one
function M.accept_all()
  local first = true
  while asked and edits[1] and M.visible() and not is_stale(edits[1]) do
    if not first then
      pcall(vim.cmd.undojoin)
    end
    first = false
    apply(edits[1])
  end
  return not first
end

--- `accept` for an expression mapping, in which text must not change.
---@return boolean whether there is one
function M.accept_soon()
  if M.visible() then
    vim.schedule(M.accept)
  end
  return M.visible()
end

return M
