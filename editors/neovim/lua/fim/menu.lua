-- Detects whether a completion menu is open: the built-in one, blink.cmp's or nvim-cmp's.

local M = {}

local blink_open = false
local cmp_open = false
local cmp_known = false
local changed = function() end

--- nvim-cmp reports by its own event object, which exists once it is loaded: often only on typing.
local function watch_cmp()
  local cmp = package.loaded['cmp']
  if cmp_known or not cmp or not cmp.event then
    return
  end
  cmp_known = true
  cmp.event:on('menu_opened', function()
    cmp_open = true
    changed()
  end)
  cmp.event:on('menu_closed', function()
    cmp_open = false
    changed()
  end)
end

---@return boolean
function M.visible()
  watch_cmp()
  return blink_open or cmp_open or vim.fn.pumvisible() == 1
end

--- Call `callback` whenever a menu opens or closes.
---@param callback fun()
function M.watch(callback)
  changed = callback
  local group = vim.api.nvim_create_augroup('fim.menu', {})
  for pattern, open in pairs({ BlinkCmpMenuOpen = true, BlinkCmpMenuClose = false }) do
    vim.api.nvim_create_autocmd('User', {
      group = group,
      pattern = pattern,
      callback = function()
        blink_open = open
        changed()
      end,
    })
  end
  vim.api.nvim_create_autocmd({ 'CompleteChanged', 'CompleteDone' }, {
    group = group,
    callback = vim.schedule_wrap(changed),
  })
  -- No menu outlives insert mode, even if its closing was not reported.
  vim.api.nvim_create_autocmd('InsertLeave', {
    group = group,
    callback = function()
      blink_open, cmp_open = false, false
    end,
  })
end

return M
