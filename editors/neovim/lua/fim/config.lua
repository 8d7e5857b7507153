-- The plugin's options. The table of defaults is their documentation.

local M = {}

---@class fim.Config
local defaults = {
  -- Command that starts the server.
  cmd = { 'fim-server', 'lsp' },

  -- The server's settings (its initializationOptions): model, mode, maxTokens, …
  server = {},

  -- What draws the ghost text: 'native' is |vim.lsp.inline_completion| (Neovim 0.12), 'extmark' is
  -- this plugin, 'auto' is native if available.
  display = 'auto',

  -- Milliseconds without a keystroke before a request (debounce). Native always waits 200 ms.
  delay_ms = 75,

  -- Hide ghost text while a completion menu is open (built-in, blink.cmp, nvim-cmp).
  hide_with_menu = true,

  -- What shows next edits: 'fim', 'sidekick' (sidekick.nvim), 'copilot-lsp', or false for nothing.
  next_edit = 'fim',

  -- Keys in insert mode, none by default. Names: accept, accept_word, accept_line, next, previous,
  -- dismiss, trigger, toggle, alternatives, tab. Common choices:
  --   accept = '<M-l>', next = '<M-]>', previous = '<M-[>', dismiss = '<C-]>', tab = '<Tab>'
  keys = {},
}

M.key_names = {
  'accept',
  'accept_word',
  'accept_line',
  'next',
  'previous',
  'dismiss',
  'trigger',
  'toggle',
  'alternatives',
  'tab',
}

-- Names by which other plugins find a client for Copilot's next edits.
local client_names = { fim = 'fim', sidekick = 'fim_copilot', ['copilot-lsp'] = 'copilot_ls' }

local choices = {
  display = { 'auto', 'native', 'extmark' },
  next_edit = { 'fim', 'sidekick', 'copilot-lsp', false },
}

local current = vim.deepcopy(defaults)

---@return fim.Config
function M.get()
  return current
end

---@return boolean whether Neovim itself can draw inline completions
function M.has_native()
  return vim.lsp.inline_completion ~= nil
end

---@return 'native'|'extmark'
function M.display()
  if current.display == 'auto' then
    return M.has_native() and 'native' or 'extmark'
  end
  return current.display
end

---@return string the name of the language client that `setup` enables
function M.client_name()
  return client_names[current.next_edit or 'fim']
end

---@param name string of a language client
function M.is_ours(name)
  return name == 'fim' or name == M.client_name()
end

---@param problems string[]
---@param options table
local function check(problems, options)
  for key, value in pairs(options) do
    local expected = type(defaults[key])
    if defaults[key] == nil then
      local known = vim.tbl_keys(defaults)
      table.sort(known)
      table.insert(problems, ('%s is unknown; the options are: %s'):format(key, table.concat(known, ', ')))
    elseif choices[key] then
      if not vim.tbl_contains(choices[key], value) then
        local allowed = table.concat(vim.tbl_map(tostring, choices[key]), ', ')
        table.insert(problems, ('%s: %s is not one of %s'):format(key, vim.inspect(value), allowed))
      end
    elseif type(value) ~= expected then
      table.insert(problems, ('%s: a %s is expected, not %s'):format(key, expected, vim.inspect(value)))
    end
  end
  for name in pairs(type(options.keys) == 'table' and options.keys or {}) do
    if not vim.tbl_contains(M.key_names, name) then
      table.insert(problems, ('keys.%s is unknown; the names are: %s'):format(name, table.concat(M.key_names, ', ')))
    end
  end
  if options.display == 'native' and not M.has_native() then
    table.insert(problems, "display: 'native' needs Neovim 0.12; use 'auto' or 'extmark'")
  end
end

--- Apply the user's options. An invalid one is reported, and its default is used.
---@param options? table
---@return string[] problems
function M.set(options)
  local problems = {}
  options = options or {}
  check(problems, options)
  current = vim.deepcopy(defaults)
  for key, value in pairs(options) do
    local single = {}
    check(single, { [key] = value })
    if #single == 0 then
      current[key] = vim.deepcopy(value)
    end
  end
  return problems
end

return M
