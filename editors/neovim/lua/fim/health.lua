-- :checkhealth fim

local M = {}

local health = vim.health

local function check_neovim()
  local version = tostring(vim.version())
  if require('fim.config').has_native() then
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
  local clients = vim.lsp.get_clients({ name = require('fim.config').client_name() })
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
  health.info('display: ' .. require('fim.config').display())
end

local function check_keys()
  local names = {}
  for name, lhs in pairs(require('fim.config').get().keys) do
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
  health.start('fim: server')
  local configured = vim.lsp.config and vim.lsp.config[require('fim.config').client_name()]
  check_program(configured and configured.cmd or require('fim.config').get().cmd)
  check_server()
end

return M
