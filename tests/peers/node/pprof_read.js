// Reads a CPU profile as pprof's own tools would: node pprof_read.js FILE
const { readFileSync } = require('node:fs')
const { Profile } = require('pprof-format')

const profile = Profile.decode(readFileSync(process.argv[2]))
const text = (at) => profile.stringTable.strings[Number(at)]
const functions = new Map(profile.function.map((one) => [Number(one.id), one]))
const locations = new Map(profile.location.map((one) => [Number(one.id), one]))
const names = (sample) => sample.locationId.map((id) => {
  const line = locations.get(Number(id)).line[0]
  return text(functions.get(Number(line.functionId)).name)
})
const label = (sample, key) => text(sample.label.find((one) => text(one.key) === key).str)

console.log(JSON.stringify({
  types: profile.sampleType.map((type) => `${text(type.type)} ${text(type.unit)}`),
  period: Number(profile.period),
  seconds: Number(profile.durationNanos) / 1e9,
  // Leaf first, as the format has it.
  stacks: profile.sample.map((sample) => ({
    thread: label(sample, 'thread'),
    samples: Number(sample.value[0]),
    nanos: Number(sample.value[1]),
    calls: names(sample)
  }))
}))
