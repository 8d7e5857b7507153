-- Loaded at startup: defines the command and waits for our client to attach.
if vim.g.loaded_fim then
  return
end
vim.g.loaded_fim = true

vim.api.nvim_create_autocmd('LspAttach', {
  group = vim.api.nvim_create_augroup('fim.attach', {}),
  desc = 'fim: show inline completions in this buffer',
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and require('fim.config').is_ours(client.name) then
      require('fim.buffers').attach(client, event.buf)
    end
  end,
})

vim.api.nvim_create_user_command('Fim', function(arguments)
  require('fim.command').run(arguments.fargs, arguments.range > 0 and { arguments.line1, arguments.line2 } or nil)
end, {
  nargs = '*',
  range = true,
  desc = 'fim-server: menu, tour, status, why, snooze, alternatives, stats, settings, …',
  complete = function(lead, line)
    return require('fim.command').complete(lead, line)
  end,
})

vim.api.nvim_create_user_command('FimEdit', function(arguments)
  local edit = require('fim.edit')
  edit.range(arguments.args, edit.lines(arguments.line1, arguments.line2))
end, { nargs = '*', range = true, desc = 'fim-server: edit the lines as an instruction says' })

-- The command of the code action "Edit with instruction…".
vim.lsp.commands['fim.edit'] = function(command)
  require('fim.edit').range(nil, command.arguments[1].range)
end
