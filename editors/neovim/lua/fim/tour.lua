-- :Fim tour – a sample file beside a list of steps, which are ticked off as they are done.

local M = {}

-- The keys of the tour's own buffer, for those that the user has not configured.
local KEYS = {
  accept = '<M-l>',
  accept_word = '<M-w>',
  next = '<M-]>',
  trigger = '<M-\\>',
  alternatives = '<M-a>',
  tab = '<Tab>',
}

---@class fim.Step
---@field action string|string[] name of the `User FimAction` event that completes it
---@field text string with %s for the key

---@type { actions: string[], key?: string, text: string }[]
local STEPS = {
  { actions = { 'shown' }, key = 'trigger', text = 'Wait, or press %s: the missing text appears in grey.' },
  { actions = { 'accept_word' }, key = 'accept_word', text = '%s accepts its next word.' },
  { actions = { 'next', 'previous' }, key = 'next', text = '%s shows another suggestion.' },
  { actions = { 'alternatives' }, key = 'alternatives', text = '%s shows all of them side by side.' },
  { actions = { 'accept', 'accept_line', 'tab' }, key = 'accept', text = '%s accepts all of it.' },
  {
    actions = { 'next_edit' },
    key = 'tab',
    text = 'Rename `is_valid` in `def is_valid(amount)` and wait: '
      .. '%s goes to the next call, and changes it.',
  },
  { actions = { 'snooze' }, text = ':Fim snooze 5 is quiet for 5 minutes; :Fim snooze off wakes it.' },
  { actions = { 'why' }, text = ':Fim why says why nothing is shown.' },
}

local done = {} ---@type table<integer, true>

---@param name string
---@return string
local function key_of(name)
  return require('fim.config').get().keys[name] or KEYS[name] or ''
end

---@return string[]
local function page()
  local lines = { 'The tour of fim-server', '' }
  for index, step in ipairs(STEPS) do
    local text = step.key and step.text:format(key_of(step.key)) or step.text
    table.insert(lines, ('%s %d. %s'):format(done[index] and '[x]' or '[ ]', index, text))
  end
  vim.list_extend(lines, { '', ':tabclose ends the tour.' })
  return lines
end

---@param bufnr integer
local function draw(bufnr)
  if vim.api.nvim_buf_is_valid(bufnr) then
    vim.bo[bufnr].modifiable = true
    vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, page())
    vim.bo[bufnr].modifiable = false
  end
end

---@return string file a copy of the sample that may be changed
local function sample()
  local source = vim.api.nvim_get_runtime_file('tour/sample.py', false)[1]
  local file = vim.fn.tempname() .. '/tour.py'
  vim.fn.mkdir(vim.fs.dirname(file), 'p')
  vim.fn.writefile(vim.fn.readfile(source, 'b'), file, 'b')
  return file
end

--- The number of each step that is done, for tests.
---@return integer[]
function M.done()
  return vim.tbl_keys(done)
end

--- Open the tour in a tab page.
function M.start()
  done = {}
  local steps = vim.api.nvim_create_buf(false, true)
  vim.bo[steps].bufhidden = 'wipe'
  vim.cmd.tabedit(vim.fn.fnameescape(sample()))
  local bufnr = vim.api.nvim_get_current_buf()
  local keys = require('fim.config').get().keys
  for name, lhs in pairs(KEYS) do
    if not keys[name] then
      require('fim.keys').set_in(bufnr, name, lhs)
    end
  end
  local width = math.floor(vim.o.columns * 0.4)
  local window = vim.api.nvim_open_win(steps, false, { split = 'right', win = 0, width = width })
  vim.wo[window].wrap, vim.wo[window].linebreak = true, true
  vim.wo[window].number, vim.wo[window].signcolumn = false, 'no'
  draw(steps)
  local group = vim.api.nvim_create_augroup('fim.tour', {})
  vim.api.nvim_create_autocmd('User', {
    group = group,
    pattern = 'FimAction',
    callback = function(event)
      for index, step in ipairs(STEPS) do
        if vim.tbl_contains(step.actions, event.data.name) then
          done[index] = true
        end
      end
      vim.schedule(function()
        draw(steps)
      end)
    end,
  })
  vim.api.nvim_create_autocmd('BufWipeout', {
    group = group,
    buffer = steps,
    callback = function()
      vim.api.nvim_del_augroup_by_id(group)
    end,
  })
  vim.cmd.normal({ 'G', bang = true })
  vim.cmd.startinsert({ bang = true })
end

return M
