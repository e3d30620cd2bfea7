-- wrk's figures as one line of JSON. Arguments after `--`: the method, the bytes of the body.
function init(args)
  local size = tonumber(args[2])
  wrk.method = args[1]
  if size > 0 then
    local frame = '{"data":{"note":""}}'
    wrk.body = '{"data":{"note":"' .. string.rep("x", size - #frame) .. '"}}'
    wrk.headers["Content-Type"] = "application/json"
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
