// Guesses, the glossary's filter, and keys for what scrolls. Without scripts the page reads the same.
for (const form of document.querySelectorAll("form.guess")) {
  const [slider, shown, button, told] = ["input", "output", "button", "p"].map((x) => form.querySelector(x));
  slider.addEventListener("input", () => {
    shown.textContent = slider.value;
    button.disabled = false;
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    told.textContent = form.dataset.told.replace("{guess}", slider.value);
  });
}

const glossary = document.querySelector("table.glossary");
if (glossary) {
  const filter = Object.assign(document.createElement("input"), {
    type: "search", className: "filter", placeholder: "Find a word · 查词",
  });
  filter.setAttribute("aria-label", "Find a word");
  (glossary.closest(".table-wrapper") || glossary).before(filter);
  filter.addEventListener("input", () => {
    const asked = filter.value.trim().toLowerCase();
    for (const row of glossary.tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(asked);
    }
  });
}

// what scrolls sideways is reached by the keyboard
const reach = () => {
  for (const box of document.querySelectorAll("pre, figure, .table-wrapper, .math-wrapper, div.math")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", () => {
  reach();
  window.MathJax?.startup?.promise.then(reach);
});
addEventListener("resize", reach);

// from a folder a page may not read another: results of a search come without their lines of text
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// the headings of the margin have no level
for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.ariaLevel = "2";
