/** Folders that a run keeps beside those of its stages, whose names no stage may have. */
export const ownFolders = { states: 'state', tensorboard: 'tensorboard', sampleImages: 'sample-images' } as const;
