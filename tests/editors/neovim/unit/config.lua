-- Unit tests of fim.config: `nvim -l` runs this file, an error fails it.

local config = require('fim.config')

local function problems(options)
  return config.set(options)
end

assert(#problems() == 0 and #problems({}) == 0)
assert(config.get().display == 'auto' and vim.tbl_isempty(config.get().keys), 'no key is taken by default')

local function one(options, part)
  local found = problems(options)
  assert(#found == 1 and found[1]:find(part, 1, true), vim.inspect(found) .. ' does not name ' .. part)
end
one({ dispaly = 'auto' }, 'dispaly is unknown')
one({ display = 'popup' }, 'is not one of auto, native, extmark')
one({ delay_ms = 'soon' }, 'delay_ms: a number is expected')
one({ keys = { acept = '<Tab>' } }, 'keys.acept is unknown')
one({ next_edit = true }, 'next_edit: true is not one of fim, sidekick, copilot-lsp, false')

-- An invalid option keeps its default, and the other options are applied.
problems({ display = 'popup', delay_ms = 10 })
assert(config.get().display == 'auto' and config.get().delay_ms == 10)

-- Neovim without inline completion uses extmarks, and reports that 'native' is unavailable.
if vim.lsp.inline_completion then
  assert(config.display() == 'native' and #problems({ display = 'native' }) == 0)
else
  assert(config.display() == 'extmark')
  one({ display = 'native' }, 'needs Neovim 0.12')
end

-- The name by which other plugins know a client that speaks Copilot's next edits.
problems({ next_edit = 'sidekick' })
assert(config.client_name():find('copilot') and config.is_ours(config.client_name()))
problems({ next_edit = 'copilot-lsp' })
assert(config.client_name() == 'copilot_ls')
problems({ next_edit = false })
assert(config.client_name() == 'fim' and not config.is_ours('pyright'))
