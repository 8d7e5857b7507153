-- lualine: sections = { lualine_x = { 'fim' } }

local component = require('lualine.component'):extend()

local signs = { off = '', paused = 'off', starting = '…', loading = '…', ready = '', busy = '*', error = '!' }

function component.update_status()
  local status = require('fim.status').get()
  if status.state == 'off' then
    return ''
  end
  local at_work = status.state == 'ready' or status.state == 'busy'
  local latency = at_work and status.latency_ms and (' %.0f ms'):format(status.latency_ms) or ''
  return ('fim%s%s'):format(signs[status.state] ~= '' and ' ' .. signs[status.state] or '', latency)
end

return component
