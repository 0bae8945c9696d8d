// What is skipped: of the choice, as far as a record tells, and of what is searched for.

const skipSearch = byId("search-skipped");
const allSkips = data.skips.name.map((_, skip) => skip);
const reasonOf = (skip) => data.skips.reason.values[data.skips.reason.rows[skip]];
let searchedSkips; // of each skip, what search looks at

// What has no record is at no place of any field, and stays.
function skipsOfChoice() {
  const chosenFields = fields.filter(isChosen).map((field) => [field.skipRows, passingSets(field)]);
  return allSkips.filter((skip) =>
    chosenFields.every(([rows, passing]) => rows[skip] < 0 || passing[rows[skip]])
  );
}

function listSkips(atMost = NAMES_AT_ONCE) {
  if (!allSkips.length) return;
  searchedSkips ??= allSkips.map((skip) =>
    `${data.skips.name[skip]} ${reasonOf(skip)}`.toLowerCase()
  );
  const words = skipSearch.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (skip) => words.every((word) => searchedSkips[skip].includes(word));
  const listed = skipsOfChoice().filter(fits);
  const byReason = new Map(data.skips.reason.values.map((reason) => [reason, []]));
  for (const skip of listed) byReason.get(reasonOf(skip)).push(skip);
  for (const shown of document.querySelectorAll("[data-reason]")) {
    const held = byReason.get(data.skips.reason.values[shown.dataset.reason]);
    shown.hidden = !held.length;
    shown.querySelector(".held").textContent = number(held.length);
    const names = held.slice(0, atMost).map((skip) => make("li", {}, data.skips.name[skip]));
    if (held.length > atMost) {
      names.push(make("li", {}, `and ${number(held.length - atMost)} more: search, or download`));
    }
    shown.querySelector("ul").replaceChildren(...names);
  }
  const part = listed.length < allSkips.length ? `${number(listed.length)} of ` : "";
  byId("skips-shown").textContent = `No task stands for ${part}${number(allSkips.length)}.`;
}

function saveSkips() {
  const lines = allSkips.map((skip) => `${inCsv(data.skips.name[skip])},${inCsv(reasonOf(skip))}`);
  save(["asset,reason", ...lines].join("\n"), "skipped.csv", "text/csv");
}

if (allSkips.length) {
  byId("download-skipped").addEventListener("click", saveSkips);
  skipSearch.addEventListener("input", () => listSkips());
}
