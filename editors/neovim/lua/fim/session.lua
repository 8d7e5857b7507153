-- A buffer and its suggestion: sends requests, follows the typing, and decides what is shown.
-- Views (fim.view.*) draw it; fim.suggestion computes on its text.

local config = require('fim.config')
local insert = require('fim.insert')
local menu = require('fim.menu')
local snooze = require('fim.snooze')
local suggestions = require('fim.suggestion')

local M = {}

local INVOKED, AUTOMATIC = 1, 2
local CANCELLED = { [-32800] = true, [-32802] = true, [-32801] = true }

---@class fim.Session
---@field bufnr integer
---@field client vim.lsp.Client
---@field view fim.View
---@field suggestion? fim.Suggestion
---@field visible boolean whether ghost text is on the screen
---@field invoked boolean whether the suggestion was requested by key, which snoozing allows
---@field cycled boolean whether the user has cycled through alternatives
---@field request_id? integer id of the pending request
---@field asked_state? string state of the buffer at the last request
---@field dismissed? string state of the buffer in which the user dismissed the suggestion
---@field latency_ms? number latency of the last request
---@field why string why nothing is shown, or that something is
---@field timer? uv.uv_timer_t
local Session = {}
Session.__index = Session

--- The cursor's place; nil outside insert mode and in another buffer.
---@return fim.Place?, integer? col
function Session:place()
  if vim.api.nvim_get_current_buf() ~= self.bufnr or not vim.api.nvim_get_mode().mode:match('^i') then
    return nil
  end
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local line = vim.api.nvim_get_current_line()
  return { row = row - 1, before = line:sub(1, col), after = line:sub(col + 1) }, col
end

--- A key that identifies the text and the cursor, for comparison.
---@return string
function Session:state()
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  return ('%d:%d:%d'):format(vim.api.nvim_buf_get_changedtick(self.bufnr), row, col)
end

--- Why nothing may be shown now, whatever the server answers; nil if something may.
---@return string?
function Session:held_back()
  if vim.g.fim_enabled == false then
    return 'switched off everywhere; :Fim toggle switches it on'
  elseif vim.b[self.bufnr].fim_enabled == false then
    return 'switched off in this buffer; :Fim toggle buffer switches it on'
  elseif not vim.bo[self.bufnr].modifiable then
    return 'this buffer cannot be changed'
  elseif config.get().hide_with_menu and menu.visible() then
    return 'a completion menu is open (option hide_with_menu)'
  elseif not self:place() then
    return 'not in insert mode in this buffer'
  end
end

--- Why nothing may be shown that was not requested by key; nil if something may.
---@return string?
function Session:quiet()
  return self:held_back() or (not self.invoked and snooze.reason(self.bufnr) or nil)
end

--- The untyped parts of the suggestion, and the index of the shown one; 0 if none is shown.
---@return fim.Item[], integer
function Session:rests()
  local place, col = self:place()
  local suggestion = self.suggestion
  if not place or not suggestion then
    return {}, 0
  end
  local lines = vim.api.nvim_buf_get_lines(self.bufnr, suggestion.anchor.row, place.row + 1, false)
  if #lines > 0 then
    lines[#lines] = lines[#lines]:sub(1, col)
  end
  local typed = suggestions.typed_since(suggestion.anchor, lines, place.after)
  if not typed then
    return {}, 0
  end
  local rests, shown = suggestions.rests(suggestion, typed)
  if shown == 0 and #rests > 0 then
    suggestion.index, shown = rests[1].index, 1
  end
  return rests, shown
end

function Session:hide()
  if self.visible then
    self.visible = false
    self.view:clear()
  end
end

--- Drop the suggestion.
---@param why string
function Session:drop(why)
  self.suggestion, self.cycled, self.invoked, self.why = nil, false, false, why
  self:hide()
end

--- Redraw the suggestion for the current state of the buffer.
---@return boolean alive whether the suggestion still matches the typed text
function Session:update()
  local rests, shown = self:rests()
  if shown == 0 then
    if self.suggestion then
      self:drop('what was typed is not what was suggested')
    end
    return false
  end
  local reason = self:quiet()
  if reason then
    self.why = reason
    self:hide()
  else
    local appeared = not self.visible
    self.visible = self.view:show(rests, shown, self.cycled)
    self.why = self.visible and 'a suggestion is shown' or 'Neovim has not asked yet'
    if self.visible and appeared then
      require('fim').note('shown')
    end
  end
  return true
end

function Session:stop_timer()
  if self.timer then
    self.timer:stop()
    self.timer:close()
    self.timer = nil
  end
end

--- Send a request after `delay_ms` without typing.
function Session:ask_soon()
  self:stop_timer()
  self.timer = vim.defer_fn(function()
    self.timer = nil
    self:ask()
  end, config.get().delay_ms)
end

--- Request a suggestion if there is none.
function Session:ask()
  if not vim.api.nvim_buf_is_valid(self.bufnr) then
    return
  end
  local reason = self:quiet()
  if reason then
    self.why = reason
  elseif not self:update() and self.dismissed ~= self:state() and not self:waits_for_this() then
    self:request(AUTOMATIC, function(items, anchor)
      self.invoked = false
      self:take(items, anchor)
    end)
  end
end

---@return boolean whether a request for the current state of the buffer is pending
function Session:waits_for_this()
  return self.request_id ~= nil and self.asked_state == self:state()
end

function Session:cancel()
  local id = self.request_id
  self.request_id = nil
  if id then
    self.client:cancel_request(id)
  end
end

--- Send a request, cancelling the older one. `answered` gets the items unless they are stale.
---@param kind integer lsp.InlineCompletionTriggerKind
---@param answered fun(items: fim.Item[], anchor: fim.Place)
function Session:request(kind, answered)
  self:cancel()
  local anchor = self:place()
  if not anchor or self.client:is_stopped() then
    return
  end
  self.asked_state = self:state()
  local asked_state, began = self.asked_state, vim.uv.hrtime()
  local position = vim.lsp.util.make_position_params(0, self.client.offset_encoding)
  local params = vim.tbl_extend('force', position, { context = { triggerKind = kind } })
  self.why = 'waiting for the server'
  local sent, id
  sent, id = self.view:request(params, function(err, result)
    if id ~= self.request_id or not vim.api.nvim_buf_is_valid(self.bufnr) then
      return
    end
    self.request_id = nil
    self.latency_ms = (vim.uv.hrtime() - began) / 1e6
    if err then
      self.why = CANCELLED[err.code] and 'the request was cancelled' or ('the server failed: %s'):format(err.message)
    elseif not self:place() or asked_state ~= self:state() then
      self.why = 'the text has changed since the server was asked'
    else
      answered(M.items_of(result, anchor, self.client.offset_encoding), anchor)
    end
  end)
  self.request_id = sent and id or nil
end

--- What an item replaces right of the cursor.
---@param range? lsp.Range
---@param anchor fim.Place
---@param encoding string the client's unit of positions
---@return string
local function replaced(range, anchor, encoding)
  local start, last = range and range.start, range and range['end']
  if not start or start.line ~= anchor.row or last.line ~= anchor.row or last.character <= start.character then
    return ''
  end
  local at_cursor = start.character == vim.str_utfindex(anchor.before, encoding)
  local width = last.character - start.character
  return at_cursor and anchor.after:sub(1, vim.str_byteindex(anchor.after, encoding, width, false)) or ''
end

--- The items of an answer that can be shown: plain text at the cursor.
---@param result? lsp.InlineCompletionList|lsp.InlineCompletionItem[]
---@param anchor fim.Place
---@param encoding string the client's unit of positions
---@return fim.Item[]
function M.items_of(result, anchor, encoding)
  local items = {}
  for _, item in ipairs(result and (result.items or result) or {}) do
    if type(item.insertText) == 'string' and item.insertText ~= '' then
      local over = replaced(item.range, anchor, encoding)
      table.insert(items, { text = item.insertText, over = over, command = item.command })
    end
  end
  return items
end

--- Replace the suggestion by a new answer.
---@param items fim.Item[]
---@param anchor fim.Place
function Session:take(items, anchor)
  self.cycled = false
  self.suggestion = suggestions.new(items, anchor)
  if self.suggestion then
    self:update()
  else
    self:drop(require('fim.status').server_why())
  end
end

--- The buffer or the cursor has changed.
function Session:on_typed()
  if self.request_id and not self:waits_for_this() then
    self:cancel()
  end
  if not self:update() and not self.view.asks_itself then
    self:ask_soon()
  end
end

--- A menu has opened or closed.
function Session:on_menu()
  if self:place() and not self:update() and not self:held_back() then
    self:ask_soon()
  end
end

function Session:reset()
  self:stop_timer()
  self:cancel()
  self.dismissed = nil
  -- :Fim why is typed outside insert mode, and asks about what was before.
  self:drop(self.visible and 'a suggestion was shown until insert mode ended' or self.why)
end

--- Request suggestions now, with alternatives.
function Session:trigger()
  self:request(INVOKED, function(items, anchor)
    self.invoked = true
    self:take(items, anchor)
  end)
end

--- Show another alternative; requests alternatives if there is only one item.
---@param step 1|-1
---@return boolean whether there is a suggestion to move from
function Session:cycle(step)
  local rests, shown = self:rests()
  if not self.visible or shown == 0 then
    return false
  end
  if #rests > 1 then
    self.cycled = true
    self.suggestion.index = rests[(shown - 1 + step) % #rests + 1].index
    self:update()
    return true
  end
  local typed_part = self.suggestion.items[self.suggestion.index].text
  typed_part = typed_part:sub(1, #typed_part - #rests[1].text)
  self:request(INVOKED, function(items)
    if not self.suggestion then
      return
    end
    suggestions.add(self.suggestion, vim.tbl_map(function(item)
      return { text = typed_part .. item.text, over = item.over, command = item.command }
    end, items))
    if #self:rests() > 1 then
      self:cycle(step)
    else
      self.why = 'the server has no other suggestion'
    end
  end)
  return true
end

--- Hide the suggestion until something changes.
---@return boolean whether there was one
function Session:dismiss()
  local was_visible = self.visible
  if was_visible then
    self:cancel()
    self.dismissed = self:state()
    self:drop('dismissed here')
  end
  return was_visible
end

--- Insert the part of the shown text that `cut` returns.
---@param cut fun(text: string): string
---@return boolean whether there was anything to accept
function Session:accept(cut)
  local rests, shown = self:rests()
  if not self.visible or shown == 0 then
    return false
  end
  return self.view:accept(rests[shown], function(item)
    local piece = cut(item.text)
    local over = suggestions.replaced_by(item.over or '', item.text:sub(#piece + 1))
    insert.queue(piece, over, function()
      if piece == item.text and item.command then
        self.client:exec_cmd(item.command, { bufnr = self.bufnr })
      end
    end)
  end)
end

---@return fim.View
local function make_view(session)
  if config.display() == 'native' then
    return require('fim.view.native').new(session.client, session.bufnr, function()
      session:ask()
    end)
  end
  return require('fim.view.extmark').new(session.client, session.bufnr)
end

---@param client vim.lsp.Client
---@param bufnr integer
---@return fim.Session
function M.new(client, bufnr)
  local session = setmetatable({
    bufnr = bufnr,
    client = client,
    visible = false,
    invoked = false,
    cycled = false,
    why = 'nothing was typed yet',
  }, Session)
  session.view = make_view(session)
  return session
end

return M
