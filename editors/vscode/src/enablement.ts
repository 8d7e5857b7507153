/** For which languages suggestions are on: `fim.enable`, language identifiers to true or false. */

export type Enable = Readonly<Record<string, boolean>>;

export const ALL = "*";

export function isEnabled(enable: Enable, language: string): boolean {
  return enable[language] ?? enable[ALL] ?? true;
}

/**
 * The setting after switching one language, or all that are not named. A language that is then as all
 * others needs no entry any more, and follows them later, unless it has one by `defaults`.
 */
export function toggled(enable: Enable, language: string, defaults: Enable = {}): Enable {
  const value = !isEnabled(enable, language);
  const others = Object.fromEntries(Object.entries(enable).filter(([name]) => name !== language));
  const isAsAllOthers = language !== ALL && !(language in defaults) && value === isEnabled(others, language);
  return isAsAllOthers ? others : { ...others, [language]: value };
}
