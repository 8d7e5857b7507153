-- Keys that a user asked for. Each does what it did before where there is nothing to act on.

local M = {}

--- The keys of what `lhs` was mapped to, to be returned by an `expr` mapping.
---@param lhs string
---@param before vim.api.keyset.get_keymap what |maparg()| says; empty if it was not mapped
---@return string
local function earlier(lhs, before)
  if before.callback and before.expr == 1 then
    return before.callback() or ''
  elseif before.callback then
    vim.schedule(before.callback)
    return ''
  elseif before.rhs and before.expr == 1 then
    return vim.api.nvim_eval(before.rhs)
  end
  return before.rhs or lhs
end

---@param name string one of fim.config's key_names
---@param lhs string
local function set(name, lhs)
  local before = vim.fn.maparg(lhs, 'i', false, true)
  if before.desc and vim.startswith(before.desc, 'fim: ') then
    before = {}
  end
  vim.keymap.set('i', lhs, function()
    local fim = require('fim')
    if name == 'tab' then
      return fim.tab(function()
        return earlier(lhs, before)
      end)
    elseif name == 'trigger' or name == 'toggle' then
      fim[name]()
      return ''
    end
    return fim[name]() and '' or earlier(lhs, before)
  end, { expr = true, replace_keycodes = true, desc = 'fim: ' .. name:gsub('_', ' ') })
end

---@param keys table<string, string>
function M.set(keys)
  for _, name in ipairs(require('fim.config').key_names) do
    if keys[name] then
      set(name, keys[name])
    end
  end
end

return M
