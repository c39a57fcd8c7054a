-- Health of BrokerClusters, Topics and ConsumerGroups for Argo CD, from the conditions that the operator writes.
local status = obj.status or {}
local generation = obj.metadata.generation or 0

if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "is being deleted"}
end
-- A new object counts as observed at -1, so that it is not taken for healthy before the operator saw it.
if (status.observedGeneration or -1) < generation then
  return {status = "Progressing", message = "waits for the operator"}
end

local found = {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local ready, stalled = found.Ready, found.Stalled

if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.reason .. ": " .. stalled.message}
end
if ready == nil then
  return {status = "Progressing", message = "waits for the operator"}
end
if ready.status == "True" then
  if obj.spec ~= nil and obj.spec.consume == false then
    return {status = "Suspended", message = "consume is false: nothing is delivered to the group"}
  end
  return {status = "Healthy", message = ready.message}
end
-- Unknown: brokers have been silent for a while. What was true may still be, but somebody should look.
if ready.status == "Unknown" then
  return {status = "Degraded", message = ready.reason .. ": " .. ready.message}
end
return {status = "Progressing", message = ready.reason .. ": " .. ready.message}
