-- Next edits: changes that the server proposes elsewhere, shown in place, to jump to and apply.
--
-- They arrive as `fim/nextEdit { edits: [{ text, range, textDocument { uri, version }, command? }] }`,
-- the items of Copilot's inline edits; ranges refer to the text before any of them is applied.
-- Only an edit that is on the screen is applied, and only to a text that has not changed since.

local config = require('fim.config')

local M = {}

local places = vim.api.nvim_create_namespace('fim.next_edit.places')
local drawing = vim.api.nvim_create_namespace('fim.next_edit')

---@class fim.NextEdit
---@field text string
---@field range lsp.Range
---@field textDocument { uri: string, version?: integer }
---@field command? lsp.Command
---@field bufnr integer
---@field mark? integer extmark that tracks the range while other edits are applied
---@field tick? integer changedtick of the buffer to which the range refers

---@type fim.NextEdit[] pending edits; the first is shown
local edits = {}
local client ---@type vim.lsp.Client?
local shown_in ---@type integer?

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
  local row, col = place(edit.range.start)
  local end_row, end_col = place(edit.range['end'])
  local ok, mark = pcall(vim.api.nvim_buf_set_extmark, edit.bufnr, places, row, col, {
    end_row = end_row,
    end_col = end_col,
    -- An insertion moves as a whole if the text right before it is replaced.
    end_right_gravity = row == end_row and col == end_col,
  })
  edit.mark, edit.tick = ok and mark or nil, vim.api.nvim_buf_get_changedtick(edit.bufnr)
  return ok
end

---@param edit fim.NextEdit
---@return boolean
local function is_stale(edit)
  return not vim.api.nvim_buf_is_loaded(edit.bufnr) or edit.tick ~= vim.api.nvim_buf_get_changedtick(edit.bufnr)
end

---@param edit fim.NextEdit
---@return integer row, integer col, integer end_row, integer end_col
local function where(edit)
  local mark = vim.api.nvim_buf_get_extmark_by_id(edit.bufnr, places, edit.mark, { details = true })
  return mark[1], mark[2], mark[3].end_row, mark[3].end_col
end

local function hide()
  if shown_in and vim.api.nvim_buf_is_valid(shown_in) then
    vim.api.nvim_buf_clear_namespace(shown_in, drawing, 0, -1)
  end
  shown_in = nil
end

--- Highlight the removed text, and show the new text after it, or below it if it has lines.
---@param edit fim.NextEdit
local function draw(edit)
  vim.api.nvim_set_hl(0, 'FimEditOld', { link = 'DiffDelete', default = true })
  vim.api.nvim_set_hl(0, 'FimEditNew', { link = 'DiffAdd', default = true })
  local row, col, end_row, end_col = where(edit)
  local function mark(at_row, at_col, options)
    vim.api.nvim_buf_set_extmark(edit.bufnr, drawing, at_row, at_col, options)
  end
  mark(row, col, { end_row = end_row, end_col = end_col, hl_group = 'FimEditOld' })
  local lines = vim.split(edit.text, '\n', { plain = true })
  if #lines == 1 then
    mark(end_row, end_col, { virt_text = { { edit.text, 'FimEditNew' } }, virt_text_pos = 'inline' })
  else
    local virt_lines = vim.tbl_map(function(line)
      return { { line, 'FimEditNew' } }
    end, lines)
    mark(end_row, 0, { virt_lines = virt_lines })
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

--- Show the first edit that still applies.
local function show()
  hide()
  while edits[1] and (not edits[1].mark and not track(edits[1]) or is_stale(edits[1])) do
    table.remove(edits, 1)
  end
  local edit = edits[1]
  if not edit then
    return
  end
  shown_in = edit.bufnr
  draw(edit)
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

--- Show the server's proposal; an empty one withdraws the last one.
---@param params { edits?: fim.NextEdit[] }
---@param client_id integer
function M.receive(params, client_id)
  if config.get().next_edit ~= 'fim' then
    return
  end
  M.dismiss()
  client = vim.lsp.get_client_by_id(client_id)
  for _, edit in ipairs(client and params.edits or {}) do
    edit.bufnr = vim.uri_to_bufnr(edit.textDocument.uri)
    -- A file that is not open is loaded when its edit is shown.
    if not vim.api.nvim_buf_is_loaded(edit.bufnr) or track(edit) then
      table.insert(edits, edit)
    end
  end
  show()
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
  edits = {}
  return was_visible
end

--- Reject the edit that is shown: the server will not propose it here again.
---@return boolean whether there was one
function M.reject()
  if edits[1] and M.visible() then
    tell('textDocument/didRejectInlineEdit', edits[1])
  end
  return M.dismiss()
end

---@param edit fim.NextEdit
local function apply(edit)
  local row, col, end_row, end_col = where(edit)
  table.remove(edits, 1)
  hide()
  vim.api.nvim_buf_set_text(edit.bufnr, row, col, end_row, end_col, vim.split(edit.text, '\n', { plain = true }))
  -- Keep the other edits after our own change: their extmarks have moved with it.
  for _, other in ipairs(edits) do
    if other.bufnr == edit.bufnr and other.mark then
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
  local row, col, end_row = where(edit)
  local cursor = vim.api.nvim_win_get_cursor(0)[1] - 1
  if vim.api.nvim_get_current_buf() == edit.bufnr and row <= cursor and cursor <= end_row then
    apply(edit)
  else
    vim.cmd("normal! m'")
    vim.api.nvim_win_set_buf(0, edit.bufnr)
    vim.api.nvim_win_set_cursor(0, { row + 1, col })
    vim.cmd('normal! zv')
  end
  return true
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
