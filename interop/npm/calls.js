// Calls an SDK service with the npm client dubbo2.js; prints one line of JSON a call.
// node calls.js HOST:PORT
const { DirectlyDubbo, java } = require('dubbo2.js');

const dubbo = DirectlyDubbo.from({
  dubboAddress: process.argv[2],
  dubboVersion: '2.0.2',
  dubboInvokeTimeout: 10,
});
const types = dubbo.proxyService({
  dubboInterface: 'org.dragoman.interop.Types',
  version: '0.0.0',
  methods: {
    text: (value) => [java.String(value)],
    primitiveInt: (value) => [java.int(value)],
    primitiveLong: (value) => [java.long(value)],
    primitiveDouble: (value) => [java.double(value)],
    boxedBoolean: (value) => [java.Boolean(value)],
    list: (value) => [java.List(value)],
    noArguments: () => [],
    fail: (why) => [java.String(why)],
    order: (value) => [java.combine('org.dragoman.interop.Order', value)],
  },
});
const calls = [
  ['text', 'h\u00e9llo \u4e2d', 'h\u00e9llo \u4e2d'],
  ['primitiveInt', 70000, 70000],
  ['primitiveLong', 5, 5],
  ['primitiveDouble', 0.25, 0.25],
  ['boxedBoolean', true, true],
  ['list', ['a', 'b'], ['a', 'b']],
  ['noArguments', undefined, 'no arguments'],
  ['order', { customer: java.String('c') }, undefined],
  ['fail', 'broken', 'throws'],
];

async function main() {
  for (const [method, argument, expected] of calls) {
    const { res, err } = await types[method](argument);
    let pass = JSON.stringify(res) === JSON.stringify(expected);
    if (method === 'order') pass = !!res && res.customer === 'c';
    if (expected === 'throws') pass = !!err && String(err).includes('broken');
    const why = pass ? '' : `${err || JSON.stringify(res)}`;
    console.log(JSON.stringify({ name: method, pass, why }));
  }
  process.exit(0);
}
main();
