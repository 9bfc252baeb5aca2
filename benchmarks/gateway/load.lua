-- wrk's side of the load: one POST, the same each time. LOAD_BODY names the file with its body, LOAD_HEADERS the
-- file with a header on each line. Ends with one line that begins with `told ` and holds what was counted.
local function read(name)
  local file = assert(io.open(os.getenv(name), "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

wrk.method = "POST"
wrk.body = read("LOAD_BODY")
for line in read("LOAD_HEADERS"):gmatch("[^\n]+") do
  local name, value = line:match("^(.-): (.*)$")
  wrk.headers[name] = value
end

function done(summary, latency)
  local wrong = summary.errors
  print(string.format(
    "told requests=%d microseconds=%d failed=%d p50=%g p99=%g",
    summary.requests, summary.duration, wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout,
    latency:percentile(50), latency:percentile(99)))
end
