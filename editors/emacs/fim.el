;;; fim.el --- Suggestions of fim-server as ghost text  -*- lexical-binding: t; -*-

;; Author: The fim-server maintainers
;; Version: 0.1.0
;; Package-Requires: ((emacs "27.1"))
;; Keywords: convenience, tools
;; URL: https://github.com/fim-server/fim-server
;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; `fim-suggest' asks for a suggestion at point and shows it in grey; the buffer need not be saved.
;; While one is shown, TAB accepts it, M-f its next word, M-e its next line, M-n shows another one,
;; and any other key hides it.  `fim-mode' asks by itself when you pause.
;;
;; It runs `fim-server complete', which asks the engine that all editors share; no LSP client is
;; needed.  With lsp-mode, `lsp-inline-completion-mode' does the same over LSP: see editors/README.md.

;;; Code:

(require 'json)

(defgroup fim nil "Suggestions of fim-server." :group 'convenience :prefix "fim-")

(defcustom fim-program "fim-server" "Name or path of the program." :type 'string)

(defcustom fim-alternatives 3 "Most suggestions to choose from." :type 'integer)

(defcustom fim-idle-delay 0.5 "Seconds without a key before `fim-mode' asks." :type 'number)

(defface fim-ghost '((t :inherit shadow :slant italic)) "The text that is suggested.")

(defvar-local fim--overlay nil "The overlay that shows a suggestion.")
(defvar-local fim--texts nil "The suggestions at point, the shown one first.")
(defvar-local fim--process nil "The running request.")
(defvar fim--timer nil "The idle timer of `fim-mode'.")

(defvar fim-ghost-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'fim-accept)
    (define-key map (kbd "<tab>") #'fim-accept)
    (define-key map (kbd "M-f") #'fim-accept-word)
    (define-key map (kbd "M-e") #'fim-accept-line)
    (define-key map (kbd "M-n") #'fim-next)
    map)
  "Keys while a suggestion is shown.")

(defun fim--hide ()
  "Hide the suggestion."
  (when fim--overlay (delete-overlay fim--overlay))
  (setq fim--overlay nil fim--texts nil))

(defun fim--show (texts)
  "Show the first of TEXTS at point, with the keys of `fim-ghost-map'."
  (fim--hide)
  (let ((ghost (propertize (car texts) 'face 'fim-ghost)))
    (put-text-property 0 1 'cursor t ghost)
    (setq fim--overlay (make-overlay (point) (point)) fim--texts texts)
    (overlay-put fim--overlay 'after-string ghost)
    (set-transient-map fim-ghost-map #'fim--keeps #'fim--hide)))

(defun fim--keeps ()
  "Whether the last command leaves the keys of the suggestion in force."
  (memq this-command '(fim-next)))

(defun fim--accept (pattern)
  "Insert what PATTERN matches of the suggestion, and show the rest."
  (when-let ((text (car fim--texts)))
    (string-match pattern text)
    (let ((piece (match-string 0 text)) (rest (substring text (match-end 0))))
      (fim--hide)
      (insert piece)
      (unless (string= rest "")
        (run-at-time 0 nil #'fim--show-if-here (current-buffer) (point) (list rest))))))

(defun fim--show-if-here (buffer position texts)
  "Show TEXTS if POSITION in BUFFER is still point."
  (when (and (eq buffer (current-buffer)) (= position (point)))
    (fim--show texts)))

(defun fim-accept () "Insert the suggestion." (interactive) (fim--accept "\\(?:.\\|\n\\)+"))
(defun fim-accept-word () "Insert its next word." (interactive)
       (fim--accept "[ \t\n]*\\(?:[[:word:]_]+\\|[^[:word:]_ \t\n]+\\|\\'\\)"))
(defun fim-accept-line () "Insert its next line." (interactive) (fim--accept "\n?.*"))

(defun fim-next ()
  "Show the next suggestion in place of the shown one."
  (interactive)
  (when fim--texts
    (let ((texts (append (cdr fim--texts) (list (car fim--texts)))))
      (setq fim--texts texts)
      (overlay-put fim--overlay 'after-string
                   (let ((ghost (propertize (car texts) 'face 'fim-ghost)))
                     (put-text-property 0 1 'cursor t ghost)
                     ghost)))))

(defun fim-suggest (&optional quietly)
  "Ask for suggestions at point and show the first one.
The text is that of the buffer, saved or not.  With QUIETLY, say
nothing if there is none."
  (interactive)
  (when (process-live-p fim--process) (delete-process fim--process))
  (fim--hide)
  (let* ((buffer (current-buffer)) (position (point)) (tick (buffer-chars-modified-tick))
         (text (save-restriction (widen) (buffer-substring-no-properties (point-min) (point-max))))
         (column (1+ (- (point) (line-beginning-position))))
         (name (or buffer-file-name (buffer-name)))
         (place (format "%s:%d:%d" name (line-number-at-pos nil t) column))
         (output (generate-new-buffer " *fim*" t))
         (coding-system-for-write 'utf-8) (coding-system-for-read 'utf-8))
    (setq fim--process
          (make-process
           :name "fim" :buffer output :noquery t :connection-type 'pipe
           :stderr (get-buffer-create "*fim-log*")
           :command (list fim-program "complete" place "--stdin" "--json"
                          "--alternatives" (number-to-string fim-alternatives))
           :sentinel
           (lambda (process _event)
             (when (memq (process-status process) '(exit signal))
               (let ((answer (fim--read output)))
                 (kill-buffer output)
                 (when (and (buffer-live-p buffer) (eq buffer (current-buffer)))
                   (with-current-buffer buffer
                     (when (and (= position (point)) (= tick (buffer-chars-modified-tick)))
                       (fim--answered answer quietly)))))))))
    (process-send-string fim--process text)
    (process-send-eof fim--process)))

(defun fim--read (output)
  "The answer in the buffer OUTPUT; nil if it is not JSON."
  (with-current-buffer output
    (goto-char (point-min))
    (ignore-errors (json-parse-buffer :object-type 'alist :array-type 'list))))

(defun fim--answered (answer quietly)
  "Show the items of ANSWER, or say why there are none unless QUIETLY."
  (let ((texts (mapcar (lambda (item) (alist-get 'text item)) (alist-get 'items answer))))
    (cond (texts (fim--show texts))
          (quietly nil)
          (answer (message "fim: nothing: %s" (or (alist-get 'why answer) (alist-get 'silence answer))))
          (t (message "fim: %s failed; see *fim-log*" fim-program)))))

(defun fim--idle ()
  "Ask if `fim-mode' is on here and the user is writing."
  (when (and (bound-and-true-p fim-mode) (not (minibufferp)) (not buffer-read-only)
             (not fim--texts) (memq last-command '(self-insert-command newline fim-accept-word)))
    (fim-suggest t)))

;;;###autoload
(define-minor-mode fim-mode
  "Show suggestions of fim-server when you pause."
  :lighter " fim"
  (when fim--timer (cancel-timer fim--timer))
  (setq fim--timer (run-with-idle-timer fim-idle-delay t #'fim--idle)))

(provide 'fim)
;;; fim.el ends here
