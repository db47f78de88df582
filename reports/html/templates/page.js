"use strict";
// The page says everything without this: here are sorting, filtering and saving of data alone.
(function () {
  const number = (text) => {
    const found = /^[+\-−≈]?[\d.,]+(e[+-]?\d+)?/i.exec(text.trim());
    return found ? parseFloat(found[0].replace(/,/g, "").replace("−", "-").replace("≈", "")) : NaN;
  };
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    const value = cell.dataset.value === undefined ? number(text) : parseFloat(cell.dataset.value);
    return { text, value };
  };
  const compare = (a, b, direction) => {
    if (!a.text || !b.text) return (a.text ? 0 : 1) - (b.text ? 0 : 1); // blanks last, either way
    const bothNumbers = !Number.isNaN(a.value) && !Number.isNaN(b.value);
    const order = bothNumbers ? a.value - b.value : a.text.localeCompare(b.text, "en");
    return direction * order;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 2) continue;
    const headings = Array.from(table.tHead.querySelectorAll("th:not(.group)"));
    headings.forEach((heading, place) => {
      const column = Number(heading.dataset.column || place);
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
        const rows = Array.from(body.rows).map((row) => ({ row, key: keyOf(row, column) }));
        rows.sort((a, b) => compare(a.key, b.key, direction));
        body.append(...rows.map((entry) => entry.row));
      });
    });
  }

  const filter = document.getElementById("filter");
  const rows = Array.from(document.querySelectorAll("table.results > tbody > tr"));
  if (filter && rows.length > 8) {
    filter.closest(".tools").hidden = false;
    const shown = document.getElementById("shown");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const matches = (row) => {
        const cells = Array.from(row.cells, (cell) => cell.textContent.toLowerCase().trim());
        // A number is meant whole: 6 is not 64.
        return words.every((word) =>
          cells.some((cell) => (/^\d+$/.test(word) ? cell === word : cell.includes(word))));
      };
      rows.forEach((row) => { row.hidden = !matches(row); });
      const left = rows.filter((row) => !row.hidden).length;
      shown.textContent = words.length ? `${left} of ${rows.length} rows` : "";
    });
  }

  for (const block of document.querySelectorAll("details.raw > script")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "save";
    button.textContent = `Save as ${block.id}.json`;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([block.textContent], { type: "application/json" }));
      link.download = `${block.id}.json`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    block.before(button);
  }
  // A link to something folded away opens it.
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  if (location.hash) open();
})();
