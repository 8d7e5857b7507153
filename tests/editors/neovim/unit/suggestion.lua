-- Unit tests of fim.suggestion: `nvim -l` runs this file, an error fails it.

local suggestions = require('fim.suggestion')

local function equal(actual, expected, what)
  if not vim.deep_equal(actual, expected) then
    error(('%s: %s is not %s'):format(what, vim.inspect(actual), vim.inspect(expected)), 2)
  end
end

local anchor = { row = 3, before = '  x = ', after = ')' }

-- The text typed since the request: on the anchor's line, over several lines, none, or elsewhere.
equal(suggestions.typed_since(anchor, { '  x = ' }, ')'), '', 'nothing typed')
equal(suggestions.typed_since(anchor, { '  x = ab' }, ')'), 'ab', 'letters')
equal(suggestions.typed_since(anchor, { '  x = a', '  b' }, ')'), 'a\n  b', 'lines')
equal(suggestions.typed_since(anchor, { '  x =' }, ')'), nil, 'taken back beyond the anchor')
equal(suggestions.typed_since(anchor, { '  y = ' }, ')'), nil, 'another line')
equal(suggestions.typed_since(anchor, { '  x = a' }, '))'), nil, 'the text behind has changed')
equal(suggestions.typed_since(anchor, {}, ')'), nil, 'the line is gone')

-- The rest of each item.
local function made(...)
  return suggestions.new(vim.tbl_map(function(text)
    return { text = text }
  end, { ... }), anchor)
end
local function left(suggestion, typed)
  local rests, shown = suggestions.rests(suggestion, typed)
  return vim.tbl_map(function(rest)
    return rest.text
  end, rests), shown
end
equal(suggestions.new({}, anchor), nil, 'no items, no suggestion')
local several = made('abc', 'abd', 'xyz')
equal({ left(several, '') }, { { 'abc', 'abd', 'xyz' }, 1 }, 'nothing typed')
equal({ left(several, 'ab') }, { { 'c', 'd' }, 1 }, 'two are left')
several.index = 2
equal({ left(several, 'ab') }, { { 'c', 'd' }, 2 }, 'the second is shown')
equal({ left(several, 'abc') }, { {}, 0 }, 'one is typed to its end')
several.index = 3
equal({ left(several, 'a') }, { { 'bc', 'bd' }, 0 }, 'the shown one is gone')
equal(suggestions.rests(several, 'a')[2].index, 2, 'a rest knows its item')

-- More alternatives, without duplicates.
suggestions.add(several, { { text = 'abd' }, { text = 'new' }, { text = 'new' } })
equal({ left(several, '') }, { { 'abc', 'abd', 'xyz', 'new' }, 3 }, 'added')

-- Pieces: concatenated, they give the whole text.
local function pieces(cut, text)
  local found = {}
  while text ~= '' do
    local piece = cut(text)
    assert(piece ~= '' and vim.startswith(text, piece), 'a piece is a start of the text: ' .. vim.inspect(text))
    table.insert(found, piece)
    text = text:sub(#piece + 1)
  end
  return found
end
equal(pieces(suggestions.first_word, 'return foo_1(a)'), { 'return', ' foo_1', '(', 'a', ')' }, 'words')
equal(pieces(suggestions.first_word, 'naïve += 日本'), { 'naïve', ' +=', ' 日本' }, 'words beyond ASCII')
equal(pieces(suggestions.first_word, ':\n\tpass\n'), { ':', '\n\tpass', '\n' }, 'words over lines')
equal(pieces(suggestions.first_line, 'a b\n  c\n\nd'), { 'a b', '\n  c', '\n\nd' }, 'lines')
equal(pieces(suggestions.first_line, '\n\n'), { '\n\n' }, 'empty lines')
