/** The latency measurement of `make latency-editors`, with more rounds than in the tests. */

import { test } from "node:test";
import { measure, openShop } from "../workbench/shop";
import { until } from "../workbench/window";
import { Workbench } from "../workbench/workbench";

void test("from a key to the ghost text", async () => {
  const workbench = await Workbench.start();
  try {
    const { window, folder } = await openShop(workbench, "shop");
    await until("the model to be loaded", async () => (await window.icon()) === "sparkle");
    await measure(window, folder.transcript);
  } finally {
    await workbench.stop();
  }
});
