// Sphinx's own weights; but a chapter comes before its teacher's page.
var Scorer = {
  score: ([docname, , , , score]) => (docname.startsWith("teaching") ? score - 4 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
