// An address with #slide=… leads on to the page of that slide, with all that it says.
const wanted = new URLSearchParams(location.hash.slice(1)).get("slide");
const link = [...document.querySelectorAll("a[data-slide]")].find((a) => a.dataset.slide === wanted);
if (link) location.replace(link.href + location.hash);
