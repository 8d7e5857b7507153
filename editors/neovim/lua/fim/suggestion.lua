-- A suggestion and what remains of it after typing: pure functions, no editor state.

local M = {}

---@class fim.Item
---@field text string to insert at the anchor
---@field over? string text right of the anchor, on its line, that it replaces
---@field command? lsp.Command to run after the whole text was accepted

---@class fim.Rest: fim.Item the part of an item that is not typed yet
---@field index integer index of the item

---@class fim.Place a cursor position with the text around it
---@field row integer from 0
---@field before string the line's text before the cursor
---@field after string the line's text after the cursor

---@class fim.Suggestion
---@field items fim.Item[] the server's alternatives, in its order
---@field index integer the item that is shown
---@field anchor fim.Place the position of the request

---@param items fim.Item[]
---@param anchor fim.Place
---@return fim.Suggestion? nil without items
function M.new(items, anchor)
  if #items == 0 then
    return nil
  end
  return { items = items, index = 1, anchor = anchor }
end

---@param lines string[] the lines from the anchor's to the cursor's, the last cut at the cursor
---@param anchor fim.Place
---@return string? typed the text between anchor and cursor; nil if the cursor moved elsewhere
function M.typed_since(anchor, lines, after)
  if #lines == 0 or after ~= anchor.after or not vim.startswith(lines[1], anchor.before) then
    return nil
  end
  return table.concat(lines, '\n'):sub(#anchor.before + 1)
end

--- The untyped part of each item that begins with the typed text.
---@param suggestion fim.Suggestion
---@param typed string
---@return fim.Rest[] rests, integer shown index of the shown item's part; 0 if it no longer matches
function M.rests(suggestion, typed)
  local rests, shown = {}, 0
  for index, item in ipairs(suggestion.items) do
    if #item.text > #typed and vim.startswith(item.text, typed) then
      local rest = item.text:sub(#typed + 1)
      table.insert(rests, { text = rest, over = item.over, command = item.command, index = index })
      if index == suggestion.index then
        shown = #rests
      end
    end
  end
  return rests, shown
end

--- Append the items of another answer for the same position, without duplicates.
---@param suggestion fim.Suggestion
---@param items fim.Item[]
function M.add(suggestion, items)
  local known = {}
  for _, item in ipairs(suggestion.items) do
    known[item.text] = true
  end
  for _, item in ipairs(items) do
    if not known[item.text] then
      known[item.text] = true
      table.insert(suggestion.items, item)
    end
  end
end

--- How many bytes of the replaced text go when a piece of an item is inserted: those that the rest
--- of the item no longer has, in order.
---@param over string
---@param rest string the item's text after the piece
---@return integer
function M.replaced_by(over, rest)
  for count = 0, #over do
    local at = 1
    for character in over:sub(count + 1):gmatch('%S') do
      at = at and rest:find(character, at, true)
      at = at and at + 1
    end
    if at then
      return count
    end
  end
  return #over
end

-- A word is a run of letters, digits and non-ASCII characters, or a run of punctuation.
local word = '^%s*[%w_\128-\255]+'
local punctuation = '^%s*[^%w%s_\128-\255]+'

---@param text string
---@return string piece the next word, with the blanks before it
function M.first_word(text)
  return text:match(word) or text:match(punctuation) or text
end

---@param text string
---@return string piece the rest of the line; at a line's end, the next line
function M.first_line(text)
  return text:match('^\n?[^\n]+') or text
end

return M
