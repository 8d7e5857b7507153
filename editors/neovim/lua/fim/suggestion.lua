-- A suggestion and what typing leaves of it: pure functions, no editor state.

local M = {}

---@class fim.Item
---@field text string to be inserted at the anchor
---@field command? lsp.Command to be run after the whole text was accepted

---@class fim.Rest: fim.Item what is left of an item
---@field index integer the item's own

---@class fim.Place what the cursor stands between
---@field row integer counted from 0
---@field before string the cursor's line left of it
---@field after string the cursor's line right of it

---@class fim.Suggestion
---@field items fim.Item[] all that the server answered, in its order
---@field index integer the item that is shown
---@field anchor fim.Place where the server was asked

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
---@return string? typed what stands between anchor and cursor; nil if the cursor went elsewhere
function M.typed_since(anchor, lines, after)
  if #lines == 0 or after ~= anchor.after or not vim.startswith(lines[1], anchor.before) then
    return nil
  end
  return table.concat(lines, '\n'):sub(#anchor.before + 1)
end

--- What is left to insert of each item that begins with what was typed.
---@param suggestion fim.Suggestion
---@param typed string
---@return fim.Rest[] rests, integer shown the one that belongs to the shown item; 0 if it is gone
function M.rests(suggestion, typed)
  local rests, shown = {}, 0
  for index, item in ipairs(suggestion.items) do
    if #item.text > #typed and vim.startswith(item.text, typed) then
      table.insert(rests, { text = item.text:sub(#typed + 1), command = item.command, index = index })
      if index == suggestion.index then
        shown = #rests
      end
    end
  end
  return rests, shown
end

--- Add items of another answer for the same place, each text once, behind those that are there.
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

-- A word is letters, digits and anything beyond ASCII; else one run of punctuation.
local word = '^%s*[%w_\128-\255]+'
local punctuation = '^%s*[^%w%s_\128-\255]+'

---@param text string
---@return string piece the next word, with the blanks before it
function M.first_word(text)
  return text:match(word) or text:match(punctuation) or text
end

---@param text string
---@return string piece up to the end of the line; from a line's end, all of the next line
function M.first_line(text)
  return text:match('^\n?[^\n]+') or text
end

return M
