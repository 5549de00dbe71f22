// Copies what the console's page takes from others out of node_modules, each file with
// its licence, and writes what came from where:
//
//   node copy.mjs <folder of node_modules> <folder static>
//
// `make assets` runs it after `npm ci --ignore-scripts`.

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const taken = [
  { package: '@picocss/pico', source: 'css/pico.min.css', file: 'pico.min.css', licence: 'LICENSE.md' },
  { package: 'htmx.org', source: 'dist/htmx.min.js', file: 'htmx.min.js', licence: 'LICENSE' },
  { package: 'uplot', source: 'dist/uPlot.iife.min.js', file: 'uplot.iife.min.js', licence: 'LICENSE' },
  { package: 'uplot', source: 'dist/uPlot.min.css', file: 'uplot.min.css', licence: 'LICENSE' },
]

const [modules, target] = process.argv.slice(2)
if (!modules || !target) {
  throw new Error('usage: node copy.mjs <folder of node_modules> <folder static>')
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

function copied(from, to) {
  const bytes = readFileSync(from)
  writeFileSync(join(target, to), bytes)
  return sha256(bytes)
}

const licences = join(target, 'LICENSES')
rmSync(licences, { recursive: true, force: true })
mkdirSync(licences, { recursive: true })

const files = taken.map((one) => {
  const folder = join(modules, one.package)
  const about = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const licenceFile = `LICENSES/${basename(one.package)}.txt`
  return {
    file: one.file,
    package: one.package,
    version: about.version,
    source: one.source,
    sha256: copied(join(folder, one.source), one.file),
    licence: about.license,
    licence_file: licenceFile,
    licence_sha256: copied(join(folder, one.licence), licenceFile),
  }
})
writeFileSync(join(target, 'manifest.json'), JSON.stringify({ files }, null, 2) + '\n')
