-- What wrk runs for the race: optional random forms, and the result as one line of JSON.
--
-- Arguments after `--`: "get", or "form <interface> <count>", which posts `count` forms made beforehand, in
-- turn, each with a random alphanumeric parameter of 0 to 1023 characters, as the demo consumer would.

local thread_count = 0

function setup(thread)
  thread_count = thread_count + 1
  thread:set("number", thread_count)
end

local function random_text(letters, length)
  local characters = {}
  for i = 1, length do
    local at = math.random(#letters)
    characters[i] = letters:sub(at, at)
  end
  return table.concat(characters)
end

function init(args)
  if args[1] ~= "form" then
    return
  end
  math.randomseed(os.time() * 16 + number)
  local letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
  local headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }
  local form = "interface=" .. args[2]
    .. "&method=hash&parameterTypesString=Ljava%2Flang%2FString%3B&parameter="
  local requests = {}
  for i = 1, tonumber(args[3]) do
    local body = form .. random_text(letters, math.random(0, 1023))
    requests[i] = wrk.format("POST", wrk.path, headers, body)
  end
  local next_request = 0
  request = function()
    next_request = next_request % #requests + 1
    return requests[next_request]
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  local format = '{"responses":%d,"duration_us":%d,'
    .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d},'
    .. '"latency_us":{"mean":%.1f,"min":%d,"max":%d,"p50":%d,"p90":%d,"p99":%d,"p99_9":%d}}\n'
  io.write("RESULT " .. string.format(
    format, summary.requests, summary.duration,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency.mean, latency.min, latency.max, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9)))
end
