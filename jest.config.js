// Tests run on the compiled output, the same files that are shipped: worker threads and child processes need real
// JavaScript, and one tsc run is faster than transforming in every Jest worker.
export default {
  testEnvironment: 'node',
  roots: ['<rootDir>/dist/test'],
  transform: {},
  testTimeout: 30_000,
  maxWorkers: 2,
};
