// An address with #slide=… leads on to the page of that slide, by way of the list of slides.
if (new URLSearchParams(location.hash.slice(1)).has("slide")) location.replace(`slides.html${location.hash}`);
