"use strict";
// What the page of a dry run knows, and how it says it. columns.py gives the data as columns; an
// asset, a task or a skip is its place in them. The files of the script stand in the page one after
// another, as PLAN_SCRIPTS of page.py names them.

const data = JSON.parse(document.getElementById("data").textContent);
const { assets, tasks } = data;
const allAssets = assets.name.map((_, asset) => asset);
const allTasks = tasks.id.map((_, task) => task);
const holdsAll = allTasks.length === data.all_tasks;

const SUBJECTS_IN_PICTURE = 200;
const PERIODS_IN_PICTURE = 53; // a year in weeks
const ROWS_AT_ONCE = 60; // of the table of tasks, with those around what is in sight
const NAMES_AT_ONCE = 200; // of what is skipped for the same reason
const VALUES_AT_ONCE = 100; // of a field to choose by
const LONG_STRING = 10_000; // characters of a filter that fill its box, however wide the window is
const LONGEST_ARGUMENT = 100_000; // bytes of a filter, or of ids, in a command; Linux takes 128 KiB

const byId = (id) => document.getElementById(id);
const copyButtons = document.querySelectorAll("[data-copy]");
for (const tool of document.querySelectorAll("[data-tool]")) tool.hidden = false;

const format = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const number = (value) => format.format(value);
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
const collator = new Intl.Collator("en");
const natural = new Intl.Collator("en", { numeric: true }).compare; // 5 before 10

function size(bytes) {
  if (bytes < 1000) return count(bytes, "Byte");
  const units = ["kB", "MB", "GB", "TB", "PB", "EB"];
  let value = bytes / 1000;
  while (value >= 1000 && units.length > 1) {
    value /= 1000;
    units.shift();
  }
  return `${value.toFixed(1)} ${units[0]}`;
}

// Characters that do not show, or that change the order of others, as JSON's escapes.
function visible(string) {
  const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const hidden = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/gu;
  return string.replace(hidden, (character) => character.split("").map(escape).join(""));
}

// A string as one word of a shell's command.
function quoted(string) {
  return `'${string.replaceAll("'", `'"'"'`)}'`;
}

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
