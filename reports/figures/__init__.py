"""Pictures for the page, as SVG.

Drawn here, not by matplotlib or Altair: their SVG carries colours and fonts in every element. These
drawings take both from the page's style sheet, so that one drawing serves light, dark and print
without a script, and the page needs no further package.
"""
