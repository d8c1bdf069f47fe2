"use strict";
(() => {
  const root = document.documentElement;

  // The scheme: that of the system until someone says otherwise.
  const button = document.getElementById("scheme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.scheme ? root.dataset.scheme === "dark" : system.matches);
  const label = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${dark() ? "light" : "dark"} scheme`);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.scheme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();

  // Tables: a button in each head sorts by its column, up and then down.
  const names = new Intl.Collator("en", { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent.trim() : parseFloat(cell.dataset.v);
  };
  const compare = (a, b) => (a === b ? 0 : a < b ? -1 : 1); // the difference of infinities is none
  const order = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? compare(a, b)
      : names.compare(String(a), String(b));
  const sort = (table, heads, column) => {
    const down = heads[column].getAttribute("aria-sort") === "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => order(key(a, column), key(b, column)) * (down ? -1 : 1));
    table.tBodies[0].append(...rows);
  };
  for (const table of document.querySelectorAll("table.sorts")) {
    const heads = [...table.querySelectorAll("tr.keys > th")];
    heads.forEach((head, column) => {
      const press = document.createElement("button");
      press.type = "button";
      press.append(...head.childNodes);
      if (head.dataset.name) press.setAttribute("aria-label", head.dataset.name);
      press.addEventListener("click", () => sort(table, heads, column));
      head.append(press);
    });
  }

  // A link to an engine unfolds it.
  const unfold = () => {
    const there = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (there instanceof HTMLDetailsElement) {
      there.open = true;
      there.scrollIntoView();
    }
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
