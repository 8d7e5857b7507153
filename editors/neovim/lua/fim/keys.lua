-- The configured keys. A key does what it did before if there is nothing to act on.

local M = {}

-- The mapping of each key before ours, by mode.
local originals = { i = {}, n = {} } ---@type table<string, table<string, table<string, any>>>

---@param lhs string
---@param mode string
---@return table<string, any> mapping as |maparg()| has it; empty if there was none
local function original(lhs, mode)
  local mapping = vim.fn.maparg(lhs, mode, false, true)
  if not vim.startswith(mapping.desc or '', 'fim: ') then
    originals[mode][lhs] = mapping
  end
  return originals[mode][lhs] or {}
end

--- The keys of the earlier mapping, for an `expr` mapping to return.
---@param lhs string
---@param before table<string, any> the earlier mapping
---@return string keys in <> notation
local function earlier(lhs, before)
  if before.expr == 1 then
    local keys = before.callback and before.callback() or before.rhs and vim.api.nvim_eval(before.rhs) or ''
    return before.replace_keycodes == 1 and keys or vim.fn.keytrans(keys)
  elseif before.callback then
    vim.schedule(before.callback)
    return ''
  end
  return before.rhs or lhs
end

-- Actions that always do something; the others leave the key to its earlier mapping if they cannot.
local ALWAYS = { trigger = true, toggle = true, alternatives = true }

---@param name string one of fim.config's key_names
---@param lhs string
---@param bufnr? integer for one buffer alone
local function set(name, lhs, bufnr)
  local before = original(lhs, 'i')
  local options = { expr = true, replace_keycodes = true, buffer = bufnr, desc = 'fim: ' .. name:gsub('_', ' ') }
  if name == 'tab' then
    -- A rename often ends in normal mode, and its edit is shown there.
    local normal = original(lhs, 'n')
    vim.keymap.set('n', lhs, function()
      return require('fim').go_to_edit() and '' or earlier(lhs, normal)
    end, options)
  end
  vim.keymap.set('i', lhs, function()
    local fim = require('fim')
    if name == 'tab' then
      return fim.tab(function()
        return earlier(lhs, before)
      end)
    elseif ALWAYS[name] then
      vim.schedule(fim[name])
      return ''
    end
    return fim[name]() and '' or earlier(lhs, before)
  end, options)
end

--- Set a key in one buffer.
---@param bufnr integer
---@param name string one of fim.config's key_names
---@param lhs string
function M.set_in(bufnr, name, lhs)
  set(name, lhs, bufnr)
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
