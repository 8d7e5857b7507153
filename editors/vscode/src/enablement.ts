/** The setting `fim.enable`: the languages with suggestions. */

export type Enable = Readonly<Record<string, boolean>>;

export const ALL = "*";

export function isEnabled(enable: Enable, language: string): boolean {
  return enable[language] ?? enable[ALL] ?? true;
}

/**
 * The setting after toggling a language, or all languages without an entry. An entry that now equals
 * the value for all others is removed, so that the language follows them, unless `defaults` has one.
 */
export function toggled(enable: Enable, language: string, defaults: Enable = {}): Enable {
  const value = !isEnabled(enable, language);
  const others = Object.fromEntries(Object.entries(enable).filter(([name]) => name !== language));
  const isAsAllOthers = language !== ALL && !(language in defaults) && value === isEnabled(others, language);
  return isAsAllOthers ? others : { ...others, [language]: value };
}
