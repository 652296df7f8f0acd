Reveal.initialize({
  width: 1280, height: 720, margin: 0, minScale: 0.1, maxScale: 4, center: false,
  hash: true, controls: false, progress: true, slideNumber: "c/t", transition: "none", backgroundTransition: "none",
  pdfSeparateFragments: false, pdfMaxPagesPerSlide: 1,
  plugins: [RevealNotes],
});
const print = () => { location.href = location.href.replace(/[?#].*/, "") + "?print-pdf"; };
Reveal.addKeyBinding({keyCode: 80, key: "P", description: "Print, one slide a page"}, print);
