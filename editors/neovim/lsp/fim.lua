-- The language server, for |vim.lsp.enable()|. One process serves all folders: it may hold a model.
---@type vim.lsp.Config
return {
  cmd = { 'fim-server', 'lsp' },
  root_markers = { '.git' },
  -- The server sends what is not in the specification only to clients that announce it. Items that
  -- replace the rest of a line are announced by `require('fim').setup()`, whose view shows them.
  capabilities = vim.tbl_deep_extend('force', vim.lsp.protocol.make_client_capabilities(), {
    experimental = { fim = { nextEdit = true, status = true, instruct = true } },
  }),
  reuse_client = function(client, config)
    return client.name == config.name
  end,
  handlers = {
    ['fim/nextEdit'] = function(_, params, ctx)
      if not require('fim.snooze').reason(vim.api.nvim_get_current_buf()) then
        require('fim.next_edit').receive(params, ctx.client_id)
      end
    end,
    ['fim/answer'] = function(_, params)
      require('fim.ask').receive(params)
    end,
    ['didChangeStatus'] = function(_, params)
      require('fim.status').server_says(params)
    end,
    ['window/showMessage'] = function(err, params, ctx)
      require('fim.status').server_message(params)
      return vim.lsp.handlers['window/showMessage'](err, params, ctx)
    end,
  },
  on_exit = function(code, signal)
    require('fim.restart').after_exit(code, signal)
  end,
}
