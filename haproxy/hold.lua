-- Loaded by the haproxy.cfg next to it, both written by "patroniglue haproxy -hold". Needs HAProxy 2.4 or newer, built with Lua.
--
-- hold keeps a new connection waiting while its proxy has not exactly one server in service, for at most the seconds that
-- it is given. The configuration enters it only then, and refuses by itself whatever it lets through too early.

-- log writes a line at most once a second: thousands may be let go at once.
local logged = {}
local function log(line)
  local second = core.now().sec
  if logged[line] ~= second then
    logged[line] = second
    core.Warning(line)
  end
end

core.register_action("hold", { "tcp-req" }, function(txn, seconds)
  local proxy, start = txn.f:fe_name(), core.now()
  repeat
    -- The more wait, the less often each one looks: all together at most 25 times a millisecond. HAProxy 2.6 never wakes one
    -- whose sleep is over before HAProxy, held up by a busy machine, has begun it: so no sleep is shorter than 100 ms. One that
    -- is forgotten nevertheless comes to its end here, too, after inspect-delay.
    core.msleep(math.min(100 + txn.f:fe_conn() // 25, 500))
    -- A client that gave up must not reach the database. HAProxy 2.4 cannot tell here; option abortonclose can, afterwards.
    if txn.req.may_recv and not txn.req:may_recv() then
      return act.DENY
    end
    -- After a reload this process checks nothing any more: it would never see the new primary.
    if txn.sf:stopping() == "1" then
      log(proxy .. ": HAProxy stops or reloads: connections that wait for a primary are refused, to be tried again")
      return act.DENY
    end
    if txn.f:nbsrv() == 1 then
      return act.CONTINUE
    end
    local now = core.now()
  until now.sec - start.sec + (now.usec - start.usec) / 1000000 >= tonumber(seconds)
  log(string.format("%s: %d primaries, want 1: connections that waited for %ss are refused", proxy, txn.f:nbsrv(), seconds))
  return act.DENY
end, 1)
