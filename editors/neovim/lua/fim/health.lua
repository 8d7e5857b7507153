-- :checkhealth fim

local M = {}

local config = require('fim.config')
local health = vim.health

local function check_neovim()
  local version = tostring(vim.version())
  if config.has_native() then
    health.ok(('Neovim %s has inline completion of its own'):format(version))
  elseif vim.lsp.config then
    health.ok(('Neovim %s; this plugin draws the ghost text'):format(version))
  else
    health.error(('Neovim %s is too old'):format(version), 'Install Neovim 0.11 or newer.')
  end
end

---@param cmd string[]|fun(...)
local function check_program(cmd)
  if type(cmd) ~= 'table' then
    return health.info('`cmd` is a function; it is not checked')
  elseif vim.fn.executable(cmd[1]) == 0 then
    return health.error(('%s was not found'):format(cmd[1]), {
      "Install it: pip install 'fim-server[local]' (or pipx, or uv tool install).",
      "Or say where it is: require('fim').setup({ cmd = { '/path/to/fim-server', 'lsp' } }).",
    })
  end
  health.ok(('starts with: %s'):format(table.concat(cmd, ' ')))
end

local function check_server()
  local clients = vim.lsp.get_clients({ name = config.client_name() })
  if #clients == 0 then
    return health.warn('the server does not run', {
      "Enable it: vim.lsp.enable('fim') or require('fim').setup({}), then open a file.",
    })
  end
  local client = clients[1]
  local info = client.server_info or {}
  local buffers = vim.tbl_count(client.attached_buffers)
  health.ok(('runs: %s %s, in %d buffers'):format(info.name or client.name, info.version or '', buffers))
  local status = require('fim.status').get(next(client.attached_buffers))
  local report = status.state == 'error' and health.error or health.ok
  report(('%s: %s'):format(status.state, status.message))
  health.info('model: ' .. status.model)
  health.info('display: ' .. config.display())
end

-- Plugins that `next_edit` may name, with their Lua modules.
local partners = { sidekick = 'sidekick', ['copilot-lsp'] = 'copilot-lsp' }

local function check_next_edit()
  local option = config.get().next_edit
  local module = partners[option]
  if not module then
    health.info('next edits: ' .. (option and 'shown by this plugin' or 'off'))
  elseif pcall(require, module) then
    health.ok(('next edits: shown by %s, which takes our client %s for its own'):format(option, config.client_name()))
  else
    health.error(('next_edit is %s, which is not installed'):format(vim.inspect(option)), {
      "Install it, or leave the option out: this plugin shows next edits itself.",
    })
  end
end

local function check_keys()
  local names = {}
  for name, lhs in pairs(config.get().keys) do
    table.insert(names, ('%s %s'):format(lhs, name))
  end
  table.sort(names)
  if #names > 0 then
    health.ok('keys: ' .. table.concat(names, ', '))
  else
    health.info("no keys are set by this plugin; see :help fim-keys (`accept` must be on one of them)")
  end
end

function M.check()
  health.start('fim: editor')
  check_neovim()
  check_keys()
  check_next_edit()
  health.start('fim: server')
  local configured = vim.lsp.config and vim.lsp.config[config.client_name()]
  check_program(configured and configured.cmd or config.get().cmd)
  check_server()
end

return M
