Reveal.initialize({
  width: 1280, height: 720, margin: 0, minScale: 0.1, maxScale: 4, center: false,
  hash: true, controls: false, progress: true, slideNumber: "c/t", transition: "none", backgroundTransition: "none",
  pdfSeparateFragments: false, pdfMaxPagesPerSlide: 1,
  plugins: [RevealNotes],
});
const print = () => { location.href = location.href.replace(/[?#].*/, "") + "?print-pdf"; };
Reveal.addKeyBinding({keyCode: 80, key: "P", description: "Print, one slide a page"}, print);
addEventListener("keydown", (event) => {  // the browser's own way to print knows nothing of slides
  if (!(event.ctrlKey || event.metaKey) || event.key !== "p" || /print-pdf/.test(location.search)) return;
  event.preventDefault();
  print();
});
// a slider keeps the arrow keys only while the mouse holds it
for (const range of document.querySelectorAll(".minimagen-frames input"))
  range.addEventListener("pointerup", () => range.blur());
