/** The file's name, and its first sentence that is no heading. */
export function summary(name, text) {
  const body = text.split('\n').filter((line) => line.trim() && !line.startsWith('#')).join(' ');
  const first = body.match(/[^.!?]*[.!?]?/)[0].trim();
  return `${name}: ${first || '(empty)'}`;
}
