-- Ghost text by Neovim's own vim.lsp.inline_completion (0.12), with its defects worked around.
--
-- We intercept the requests of Neovim to our client and send our own to the server. This avoids that
-- native code shows stale answers, keeps a suggestion that no longer matches, inserts typed
-- characters twice, and ignores menus. We keep Neovim's reply handler and call it again whenever
-- the untyped part of the suggestion changes: the text it shows always begins at the cursor, so any
-- way of accepting it is correct.

local M = {}

local METHOD = 'textDocument/inlineCompletion'

---@class fim.NativeView: fim.View
---@field handler? lsp.Handler the reply handler of the last native request
local View = {}
View.__index = View

-- client -> buffer -> view; each client's `request` is replaced once.
local hooked = setmetatable({}, { __mode = 'k' })

---@param bufnr? integer
local function resolved(bufnr)
  return (bufnr == nil or bufnr == 0) and vim.api.nvim_get_current_buf() or bufnr
end

---@param client vim.lsp.Client
local function hook(client)
  local views = { by_buffer = {}, request = client.request }
  client.request = function(self, method, params, handler, bufnr)
    local view = method == METHOD and views.by_buffer[resolved(bufnr)]
    if not view or not handler then
      return views.request(self, method, params, handler, bufnr)
    end
    view.handler = handler
    view.on_ask()
    return true
  end
  return views
end

---@param client vim.lsp.Client
---@param bufnr integer
---@param on_ask fun() called when native code requests a completion
---@return fim.NativeView
function M.new(client, bufnr, on_ask)
  hooked[client] = hooked[client] or hook(client)
  local view = setmetatable({ client = client, bufnr = bufnr, on_ask = on_ask, asks_itself = true }, View)
  hooked[client].by_buffer[bufnr] = view
  vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
  return view
end

---@param params lsp.InlineCompletionParams
---@param handler lsp.Handler
---@return boolean sent, integer? id
function View:request(params, handler)
  return hooked[self.client].request(self.client, METHOD, params, handler, self.bufnr)
end

--- Answer the last native request, for the first time or again.
---@param items lsp.InlineCompletionItem[]
---@return boolean taken false before the first request, and if native code is disabled
function View:answer(items)
  if not self.handler or not vim.lsp.inline_completion.is_enabled({ bufnr = self.bufnr }) then
    return false
  end
  local ctx = { client_id = self.client.id, bufnr = self.bufnr, method = METHOD }
  -- After the client or the feature was restarted, the handler belongs to a destroyed object.
  local alive = pcall(self.handler, nil, { items = items }, ctx)
  if not alive then
    self.handler = nil
  end
  return alive
end

--- Let native code draw an item at the cursor.
---@param rests fim.Item[]
---@param index integer
---@param cycled boolean whether to show the index and number of alternatives
---@return boolean visible
function View:show(rests, index, cycled)
  local position = vim.lsp.util.make_position_params(0, self.client.offset_encoding).position
  local shown = self:answer(vim.tbl_map(function(rest)
    local width = vim.str_utfindex(rest.over or '', self.client.offset_encoding)
    local last = { line = position.line, character = position.character + width }
    return { insertText = rest.text, range = { start = position, ['end'] = last }, command = rest.command }
  end, rests))
  if shown and cycled then
    vim.lsp.inline_completion.select({ bufnr = self.bufnr, count = index - 1 })
  end
  return shown
end

function View:clear()
  self:answer({})
end

--- Pass the natively shown item to `insert`, which decides how much of it to insert.
---@param _ fim.Item
---@param insert fun(item: fim.Item)
---@return boolean accepted
function View:accept(_, insert)
  return vim.lsp.inline_completion.get({
    bufnr = self.bufnr,
    on_accept = function(item)
      if item.client_id ~= self.client.id then
        return item
      end
      local col, last = 0, 0
      if item.range then
        _, col, _, last = item.range:to_extmark()
      end
      local over = vim.api.nvim_get_current_line():sub(col + 1, last)
      insert({ text = item.insert_text, over = over, command = item.command })
      return nil
    end,
  })
end

return M
