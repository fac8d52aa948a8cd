// Makes a clone ready to run: npm packages, libtorch, the addon, the compiled sources. Does nothing where nothing changed.
//   node scripts/setup.mjs            everything
//   node scripts/setup.mjs --native   libtorch and the addon alone
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`tinyllava: Node ${process.versions.node} is too old\n  fix: install Node 20.19 or later (https://nodejs.org)`);
  process.exit(1);
}
// The steps use what older versions of Node lack, so they are loaded after the check.
const [{ setup }, { describeFailure }] = await Promise.all([import('./setup/steps.mjs'), import('./setup/failure.mjs')]);
try {
  await setup({ env: process.env, nativeOnly: process.argv.includes('--native'), say: (line) => console.error(`setup: ${line}`) });
} catch (error) {
  console.error(`tinyllava: ${describeFailure(error)}`);
  process.exitCode = 1;
}
